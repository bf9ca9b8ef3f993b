"""The error of a wrong key, in a class that the stdlib's callers catch; imported when needed."""

from multiprocessing import AuthenticationError as _StandardError

from aiomanager.errors import AuthenticationFailed

__all__ = ("AuthenticationError",)


class AuthenticationError(AuthenticationFailed, _StandardError):
    """The server refused the key, or did not prove that it knows it."""
