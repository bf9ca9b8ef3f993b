"""Runs a command in a terminal as a shell with job control does: `job.py COMMAND ...`.

Standard input is the terminal. The command is a job of its own in the foreground; when it stops,
this says so and continues it; at last its exit code is printed.
"""

import fcntl
import os
import signal
import sys
import termios


def main() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # Who is not in the foreground may hand the terminal on only so.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpgrp())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execv(sys.argv[1], sys.argv[1:])
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            break
        print("stopped by", signal.Signals(os.WSTOPSIG(status)).name, flush=True)
        os.killpg(child, signal.SIGCONT)
    print("ended with", os.waitstatus_to_exitcode(status), flush=True)


main()
