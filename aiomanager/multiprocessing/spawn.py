"""The standard library's own `multiprocessing.spawn`, under the drop-in's name."""

import sys
from multiprocessing import spawn
from multiprocessing.spawn import *  # noqa: F403

sys.modules[__name__] = spawn
