"""What the tests of workers start from: a blocking manager with a private server of its own."""

from collections.abc import Iterator

import pytest

import aiomanager.sync


@pytest.fixture
def manager() -> Iterator[aiomanager.sync.Manager]:
    with aiomanager.sync.Manager() as manager:
        yield manager
