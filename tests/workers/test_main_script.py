"""Classes of the main script, which has another name in children of spawn and forkserver."""

from pathlib import Path

import pytest

from .helpers import METHODS, output_of_python

SCRIPT = """
import enum, subprocess, sys
from dataclasses import dataclass
import aiomanager.sync

class Color(enum.Enum):
    RED = 1

@dataclass(frozen=True)
class Place:
    x: int

class Thing:
    x = 5

KEYS = [Color.RED, Place(1), (Color.RED, Place(2)), frozenset([Place(3), Color.RED])]

def use(d, s, made):
    print([d.get(key) for key in KEYS], [key in s for key in KEYS])
    for number, key in enumerate(KEYS):
        made[key] = number
    made["things"] = [Thing(), Color.RED]

if __name__ == "__main__":
    if sys.argv[1] == "read":
        made = aiomanager.sync.connect(sys.argv[2]).named.dict("made")
        thing, color = made["things"]
        print("multiprocessing" in sys.modules, type(thing) is Thing, color is Color.RED)
    else:
        import multiprocessing
        with aiomanager.sync.Manager() as manager:
            d, s, made = manager.dict(), manager.set(), manager.named.dict("made")
            for number, key in enumerate(KEYS):
                d[key] = number
                s.add(key)
            context = multiprocessing.get_context(sys.argv[1])
            child = context.Process(target=use, args=(d, s, made))
            child.start()
            child.join()
            print([made.get(key) for key in KEYS], list(made)[:4] == KEYS)
            thing, color = made["things"]
            print(type(thing) is Thing, color is Color.RED, flush=True)
            subprocess.run([sys.executable, __file__, "read", manager.url], check=True)
"""

OUTPUT = """\
[0, 1, 2, 3] [True, True, True, True]
[0, 1, 2, 3] True
True True
False True True
"""


@pytest.mark.parametrize("method", METHODS)
def test_keys_and_values_of_the_main_scripts_classes(method: str, tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    assert output_of_python(str(path), method) == OUTPUT
