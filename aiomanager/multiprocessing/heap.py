"""The standard library's own `multiprocessing.heap`, under the drop-in's name."""

import sys
from multiprocessing import heap
from multiprocessing.heap import *  # noqa: F403

sys.modules[__name__] = heap
