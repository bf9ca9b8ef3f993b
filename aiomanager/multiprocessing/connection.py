"""The standard library's own `multiprocessing.connection`, under the drop-in's name."""

import sys
from multiprocessing import connection
from multiprocessing.connection import *  # noqa: F403
from multiprocessing.connection import Connection as Connection

sys.modules[__name__] = connection
