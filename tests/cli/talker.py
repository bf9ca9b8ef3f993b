"""A command for the tests of `run`: it says which signals it gets, and ends at SIGUSR1.

It exits with the number of the other signals that it got.
"""

import os
import signal
import sys


def say(*words: object) -> None:
    # One write: others say things by the same pipe.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def main() -> None:
    names = [*sys.argv[1:], "SIGUSR1"]
    numbers = {getattr(signal, name) for name in names}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    say("ready", os.getppid(), os.environ["AIOMANAGER_URL"])
    got = 0
    while (number := signal.sigwait(numbers)) != signal.SIGUSR1:
        got += 1
        say(signal.Signals(number).name)
    sys.exit(got)


main()
