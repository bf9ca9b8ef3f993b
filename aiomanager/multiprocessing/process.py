"""The standard library's own `multiprocessing.process`, under the drop-in's name."""

import sys
from multiprocessing import process
from multiprocessing.process import *  # noqa: F403
from multiprocessing.process import BaseProcess as BaseProcess

sys.modules[__name__] = process
