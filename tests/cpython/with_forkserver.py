"""The test cases of managers, as children started by forkserver find them."""

from .borrowed import install

install(globals(), "forkserver")
