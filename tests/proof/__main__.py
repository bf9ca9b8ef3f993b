"""`python -m tests.proof`, from the top of the project."""

import sys
from pathlib import Path

# The tests are packages of their own, side by side, as pytest sees them.
sys.path.insert(0, str(Path(__file__).parent.parent))

if __name__ == "__main__":
    from proof.command import main

    sys.exit(main())
