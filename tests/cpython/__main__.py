"""The command `python -m tests.cpython`: each start method in a process of its own, in turn."""

import argparse
import multiprocessing
import os
import platform
import signal
import subprocess
import sys

SECONDS = 900.0  # of one start method


def _run(arguments: list[str], package: str) -> int:
    command = [sys.executable, "-m", f"{__package__}.run", *arguments]
    environment = {**os.environ, "AIOMANAGER_JUDGED": package}
    # Its own group: a run that hangs takes its children along.
    with subprocess.Popen(command, env=environment, start_new_session=True) as run:
        try:
            return run.wait(SECONDS)
        except BaseException as error:
            os.killpg(run.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
    print(f"{arguments[0]}: not ended after {SECONDS:.0f} s", file=sys.stderr)
    return 1


def main() -> int:
    """Run what is asked for; return 0 when all holds."""
    methods = multiprocessing.get_all_start_methods()
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    parser.add_argument("--start-method", choices=[*methods, "all"], default="all")
    parser.add_argument("--package", default="aiomanager.multiprocessing", help="what is judged")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--public", action="store_const", dest="group", const="public")
    only.add_argument("--private", action="store_const", dest="group", const="private")
    parser.set_defaults(group="all")
    parser.add_argument("names", nargs="*", help="classes, tests, or class.test; all by default")
    given = parser.parse_args()
    print(f"{given.package} on {platform.python_implementation()} {platform.python_version()}")
    chosen = methods if given.start_method == "all" else [given.start_method]
    codes = [_run([method, given.group, *given.names], given.package) for method in chosen]
    return max(codes, key=abs)


if __name__ == "__main__":
    sys.exit(main())
