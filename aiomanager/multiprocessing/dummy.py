"""The standard library's own `multiprocessing.dummy`, under the drop-in's name."""

import sys
from multiprocessing import dummy
from multiprocessing.dummy import *  # noqa: F403

sys.modules[__name__] = dummy
