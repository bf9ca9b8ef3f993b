"""The standard library's own `multiprocessing.resource_tracker`, under the drop-in's name."""

import sys
from multiprocessing import resource_tracker
from multiprocessing.resource_tracker import *  # noqa: F403

sys.modules[__name__] = resource_tracker
