"""Run a command of `amana` on another day: `python -m tests.support.later DAYS COMMAND…`."""

import sys

from tests.support.commands import later

if __name__ == "__main__":
    later(int(sys.argv[1]), sys.argv[2:])
