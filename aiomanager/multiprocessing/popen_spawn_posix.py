"""The standard library's own `multiprocessing.popen_spawn_posix`, under the drop-in's name."""

import sys
from multiprocessing import popen_spawn_posix
from multiprocessing.popen_spawn_posix import *  # noqa: F403

sys.modules[__name__] = popen_spawn_posix
