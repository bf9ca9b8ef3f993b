"""The standard library's own `multiprocessing.synchronize`, under the drop-in's name."""

import sys
from multiprocessing import synchronize
from multiprocessing.synchronize import *  # noqa: F403

sys.modules[__name__] = synchronize
