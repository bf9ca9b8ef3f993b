"""The standard library's own `multiprocessing.reduction`, under the drop-in's name."""

import sys
from multiprocessing import reduction
from multiprocessing.reduction import *  # noqa: F403

sys.modules[__name__] = reduction
