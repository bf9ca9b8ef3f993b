"""What the tests of the drop-in run on: the standard library as the judge, and aiomanager."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

import aiomanager.multiprocessing

OURS = "aiomanager.multiprocessing"


@pytest.fixture(scope="module", params=["multiprocessing", OURS])
def package(request: pytest.FixtureRequest) -> Any:
    """The package that a program imports as `multiprocessing`."""
    importlib.import_module(f"{request.param}.managers")
    return importlib.import_module(request.param)


@pytest.fixture(scope="module")
def manager(package: Any) -> Iterator[Any]:
    """A started manager of each of the two."""
    with package.get_context("fork").Manager() as manager:
        yield manager


@pytest.fixture(scope="module")
def ours() -> Iterator[Any]:
    """A started manager of aiomanager: for what the standard library does worse."""
    with aiomanager.multiprocessing.Manager() as manager:
        yield manager
