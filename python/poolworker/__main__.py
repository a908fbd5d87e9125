"""`python -m poolworker`."""

import sys

from poolworker.standard import First

with First():
    from poolworker.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
