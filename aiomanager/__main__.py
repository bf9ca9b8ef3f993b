"""`python -m aiomanager` is the command `aiomanager`."""

import sys

from aiomanager.cli import main

if __name__ == "__main__":
    sys.exit(main())
