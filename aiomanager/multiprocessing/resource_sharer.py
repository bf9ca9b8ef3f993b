"""The standard library's own `multiprocessing.resource_sharer`, under the drop-in's name."""

import sys
from multiprocessing import resource_sharer
from multiprocessing.resource_sharer import *  # noqa: F403

sys.modules[__name__] = resource_sharer
