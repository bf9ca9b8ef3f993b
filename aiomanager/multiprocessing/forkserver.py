"""The standard library's own `multiprocessing.forkserver`, under the drop-in's name."""

import sys
from multiprocessing import forkserver
from multiprocessing.forkserver import *  # noqa: F403

sys.modules[__name__] = forkserver
