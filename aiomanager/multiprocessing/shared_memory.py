"""The standard library's own `multiprocessing.shared_memory`, under the drop-in's name."""

import sys
from multiprocessing import shared_memory
from multiprocessing.shared_memory import *  # noqa: F403

sys.modules[__name__] = shared_memory
