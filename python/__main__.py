"""Start of the installed directory: `PYTHON <this directory> --fds 3,4`.

Parses under any Python, so that an old one can be told which it needs to be.
"""

import os
import sys

if __name__ == "__main__":
    if sys.version_info < (3, 9):
        sys.stderr.write(
            "poolworker needs Python 3.9 or newer, and %s is %d.%d; set spec.worker.python to a newer interpreter\n"
            % ((sys.executable,) + sys.version_info[:2])
        )
        sys.exit(3)
    here = os.path.dirname(os.path.abspath(__file__))
    if here not in sys.path:
        sys.path.insert(0, here)

    from poolworker.standard import First

    with First():
        from poolworker.cli import main

    sys.exit(main(sys.argv[1:]))
