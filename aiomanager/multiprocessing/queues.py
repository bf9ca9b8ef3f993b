"""The standard library's own `multiprocessing.queues`, under the drop-in's name."""

import sys
from multiprocessing import queues
from multiprocessing.queues import *  # noqa: F403

sys.modules[__name__] = queues
