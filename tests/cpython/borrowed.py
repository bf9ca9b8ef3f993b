"""The interpreter's own tests of multiprocessing, imported with another package in its place.

Only the imports of that one module are turned, those inside its functions included; the rest of
the process, the standard library first of all, keeps its `multiprocessing`. A child process gets
the same by importing this module before anything else, as it does with its `__main__`.
"""

import builtins
import importlib
import os
import sys
import unittest
from collections.abc import Iterator, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

TESTS = "test._test_multiprocessing"
# The package that is judged; children inherit the environment.
PACKAGE = os.environ.setdefault("AIOMANAGER_JUDGED", "aiomanager.multiprocessing")

# Who names one of these makes a manager; tests of `TYPE == "manager"` are given one.
_MANAGERS = frozenset({"BaseManager", "Manager", "SharedMemoryManager", "SyncManager", "managers"})
# What is not documented, or documented for those who write proxies of their own.
_PRIVATE = frozenset(
    {
        "_callmethod", "_debug_info", "_getvalue", "_manager", "_number_of_objects", "_process",
        "_registry", "dispatch", "listener",
    }
)  # fmt: skip


def _import(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    if level == 0 and name.partition(".")[0] == "multiprocessing":
        module = importlib.import_module(PACKAGE + name.removeprefix("multiprocessing"))
        return module if fromlist else sys.modules[PACKAGE]
    return builtins.__import__(name, globals, locals, fromlist or (), level)


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        # Functions take their builtins from the globals of their module.
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != TESTS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            assert spec.origin is not None
            spec.loader = _Loader(fullname, spec.origin)
        return spec


if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
    assert TESTS not in sys.modules, f"{TESTS} was imported before its imports could be turned"
    sys.meta_path.insert(0, _Finder())


def install(module: dict[str, Any], start_method: str) -> None:
    """Put the test cases of managers into the globals of a module, as CPython's modules do.

    A child process finds the classes there by their names.
    """
    tests = importlib.import_module(TESTS)
    # What the fork server imports beforehand must not bring the tests with their own imports.
    tests.PRELOAD = ["__main__", module["__name__"]]
    found: dict[str, Any] = {"__name__": module["__name__"]}
    tests.install_tests_in_module_dict(found, start_method)
    for name, value in found.items():
        if isinstance(value, type) and issubclass(value, unittest.TestCase) and not tests_of(value):
            continue
        module[name] = value


def tests_of(case: type[unittest.TestCase]) -> list[str]:
    """Return the names of those tests of a class whose shared objects come from a manager."""
    names = unittest.defaultTestLoader.getTestCaseNames(case)
    return [name for name in names if _is_of_managers(case, name)]


def is_private(case: type[unittest.TestCase], name: str) -> bool:
    """Whether a test touches what is not documented for users."""
    return not _PRIVATE.isdisjoint(_names(case, name))


def _is_of_managers(case: type[unittest.TestCase], name: str) -> bool:
    kind = getattr(case, "TYPE", None)
    if kind == "manager":
        return True
    return not _MANAGERS.isdisjoint(_names(case, name, "setUp", "manager_class"))


def _names(case: type[unittest.TestCase], *entries: str) -> set[str]:
    """Return what a test names, and what the functions and classes name that it names."""
    seen: set[str] = set()
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        value = getattr(case, name, None) or getattr(sys.modules[TESTS], name, None)
        if isinstance(value, type):
            waiting.extend(base.__name__ for base in value.__mro__)
        elif (code := getattr(value, "__code__", None)) is not None:
            waiting.extend(_names_in(code))
    return seen


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)
