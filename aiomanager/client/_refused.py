"""Errors in the classes that the stdlib's callers catch; imported when one is to be raised."""

from multiprocessing import AuthenticationError as _AuthenticationError
from multiprocessing import TimeoutError as _TimeoutError

from aiomanager.errors import AuthenticationFailed, ResultTimeout

__all__ = ("AuthenticationError", "JobTimeoutError")


class AuthenticationError(AuthenticationFailed, _AuthenticationError):
    """The server refused the key, or did not prove that it knows it."""


class JobTimeoutError(ResultTimeout, _TimeoutError):
    """The result of a pool's job was not there in time."""
