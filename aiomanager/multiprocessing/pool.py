"""The standard library's own `multiprocessing.pool`, under the drop-in's name."""

import sys
from multiprocessing import pool
from multiprocessing.pool import *  # noqa: F403

sys.modules[__name__] = pool
