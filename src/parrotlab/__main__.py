"""``python -m parrotlab``, and what torchrun starts: the command line."""

import sys

from parrotlab.cli import main

if __name__ == "__main__":
    sys.exit(main())
