"""The standard library's own `multiprocessing.popen_forkserver`, under the drop-in's name."""

import sys
from multiprocessing import popen_forkserver
from multiprocessing.popen_forkserver import *  # noqa: F403

sys.modules[__name__] = popen_forkserver
