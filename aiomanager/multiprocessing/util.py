"""The standard library's own `multiprocessing.util`, under the drop-in's name."""

import sys
from multiprocessing import util
from multiprocessing.util import *  # noqa: F403

sys.modules[__name__] = util
