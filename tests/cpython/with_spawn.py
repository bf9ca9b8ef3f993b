"""The test cases of managers, as children started by spawn find them."""

from .borrowed import install

install(globals(), "spawn")
