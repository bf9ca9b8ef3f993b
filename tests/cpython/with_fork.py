"""The test cases of managers, as children started by fork find them."""

from .borrowed import install

install(globals(), "fork")
