"""Run a command of `amana` on another day: `python -m tests.support.later DAYS COMMAND…`; the clock goes on from there."""

import sys
from datetime import UTC, datetime, timedelta

import time_machine

from amana.cli import main

if __name__ == "__main__":
    ahead = datetime.now(UTC) + timedelta(days=int(sys.argv.pop(1)))
    with time_machine.travel(ahead, tick=True):
        main()
