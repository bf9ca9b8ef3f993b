"""The standard library's own `multiprocessing.popen_fork`, under the drop-in's name."""

import sys
from multiprocessing import popen_fork
from multiprocessing.popen_fork import *  # noqa: F403

sys.modules[__name__] = popen_fork
