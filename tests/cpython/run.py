"""One run of CPython's tests of managers: one start method, in the process that is called for it.

Children import this file first as their main module, and with it what turns the tests' imports.
"""

import argparse
import faulthandler
import importlib
import signal
import sys
import unittest
from collections import Counter
from types import FrameType, ModuleType
from typing import Any

# Before all else: see the first lines there.
from . import borrowed
from .differences import DIFFERENCES

SECONDS = 60  # of one test


class _Result(unittest.TextTestResult):
    """Counts public and private tests apart, and lets none run for ever."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.outcomes: dict[str, Counter[str]] = {"public": Counter(), "private": Counter()}

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().startTest(test)
        self._failed_before = len(self.failures) + len(self.errors)
        self._outcome = "passed"
        signal.alarm(SECONDS)
        # Where a signal handler is not reached.
        faulthandler.dump_traceback_later(2 * SECONDS, exit=True)

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        if len(self.failures) + len(self.errors) > self._failed_before:
            self._outcome = "failed"
        private = borrowed.is_private(type(test), test._testMethodName)
        self.outcomes["private" if private else "public"][self._outcome] += 1
        super().stopTest(test)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        self._outcome = "skipped"

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addExpectedFailure(test, err)
        self._outcome = "different, as listed"

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().addUnexpectedSuccess(test)
        self._outcome = "failed"


def _too_long(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"the test took longer than {SECONDS} s")


def _suite(module: ModuleType, names: list[str], start_method: str) -> unittest.TestSuite:
    """Return the tests of a module whose names are given, or all of them."""
    suite = unittest.TestSuite()
    for name, case in sorted(vars(module).items()):
        if not isinstance(case, type) or not issubclass(case, unittest.TestCase):
            continue
        for test in borrowed.tests_of(case):
            wanted = {name, test, f"{name}.{test}"}
            if names and wanted.isdisjoint(names):
                continue
            instance: Any = case(test)
            difference = DIFFERENCES.get(f"{name}.{test}")
            if difference is not None and start_method in difference.start_methods:
                instance.__unittest_expecting_failure__ = True
            suite.addTest(instance)
    return suite


def main() -> int:
    """Run the tests and print the counts; return 0 when all hold that are not listed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("start_method")
    parser.add_argument("group", choices=["all", "public", "private"])
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    module = importlib.import_module(f"{__package__}.with_{given.start_method}")
    suite = _suite(module, given.names, given.start_method)
    if given.group != "all":
        suite = unittest.TestSuite(
            test
            for test in suite
            if isinstance(test, unittest.TestCase)
            and borrowed.is_private(type(test), test._testMethodName) == (given.group == "private")
        )
    if not suite.countTestCases():
        print(f"no test is called {' or '.join(given.names)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGALRM, _too_long)
    result = unittest.TextTestRunner(resultclass=_Result, verbosity=2).run(suite)
    assert isinstance(result, _Result)
    for group, outcomes in result.outcomes.items():
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        print(f"{given.start_method}, {group}: {counts or 'none'}", flush=True)
    if importlib.import_module("test.support").environment_altered:
        print(f"{given.start_method}: something was left behind, see the warnings above")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
