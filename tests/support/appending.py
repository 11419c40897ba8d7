"""A process that appends events until it has appended so many or is killed, and writes down each that was acknowledged.

Run as `python -m tests.support.appending URL COUNT FILE`: one leaf a line, in hexadecimal, after its commit.
"""

import sys
from pathlib import Path

from amana.custody import service as custody
from amana.protocol.encoding import canonical, random_id
from amana.protocol.receipt import leaf
from amana.storage.database import Database


def main(url: str, count: int, target: Path) -> None:
    database = Database(url, pool_size=1)
    with target.open("a", buffering=1) as file:
        for _ in range(count):
            event = {"v": 1, "kind": "test", "id": random_id()}
            with database.transaction() as session:
                key = custody.record(session, event)
            file.write(leaf(canonical(event), key).hex() + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
