"""The demonstration organisation's officers, who publish a further version of the directory in this process."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from amana.access.publishing import publish
from amana.client.enrolments import enter, read_pending, remove
from amana.client.keyfile import read_key
from amana.client.officer import describe, propose, rotate_root, sign
from amana.directory import service as directory
from amana.directory.models import DirectoryFile
from amana.ops.demo import PASSPHRASE
from amana.protocol.directory import RootPins
from tests.support.organisation import Organisation

Change = Callable[[dict[str, Any]], None]


class Officers:
    """Two of the three sign whatever a test wants."""

    def __init__(self, organisation: Organisation) -> None:
        self.organisation = organisation
        paths = sorted(organisation.folder.glob("demo/officers/*.key"))
        self.keys = [read_key(path, PASSPHRASE) for path in paths]

    def publish(self, change: Change) -> int:
        """Publish the next version, changed."""
        services, now = self.organisation.services, self.organisation.clock()
        version = self.organisation.directory.version
        description = describe(self._files(version))
        change(description)
        proposal = propose(description, version=version + 1, now=now)
        for key in self.keys[:2]:
            sign(proposal, key)
        with services.database.transaction() as session:
            return publish(
                session,
                metadata={f"{version + 1}.targets.json": proposal.targets.to_bytes()},
                targets=proposal.files,
                trusted_root=services.trusted_root(),
                online=services.secrets.online,
                now=now,
            )

    def rotate(self, **changes: Any) -> int:
        """Publish the next root, changed, and the next version under it."""
        services, now = self.organisation.services, self.organisation.clock()
        with services.database.reading() as session:
            newest = directory.newest_signed(session, services.trusted_root())
        assert newest is not None
        current, targets = newest
        version = targets.version + 1
        root = rotate_root(current, now=now, **changes)
        description = describe(self._files(version - 1))
        proposal = propose(description, version=version, now=now, root=root)
        for key in self.keys[:2]:
            sign(proposal, key)
        files = {
            f"{version}.targets.json": proposal.targets,
            f"{root.signed.version}.root.json": root,
        }
        with services.database.transaction() as session:
            return publish(
                session,
                metadata={name: one.to_bytes() for name, one in files.items()},
                targets=proposal.files,
                trusted_root=services.trusted_root(),
                online=services.secrets.online,
                now=now,
            )

    def pins(self) -> RootPins:
        """Return what the root in force pins."""
        services = self.organisation.services
        with services.database.reading() as session:
            return directory.pinned(session, services.trusted_root())

    def accept(self, waiting: list[dict[str, Any]], *ids: str) -> int:
        """List those of the waiting whom `ids` name."""
        pending = read_pending({"enrolments": waiting}, self.organisation.directory)

        def change(description: dict[str, Any]) -> None:
            for one in pending:
                if one.id in ids:
                    assert not one.fault
                    enter(description, one, purposes=["evidence"])

        return self.publish(change)

    def remove(self, person: str) -> int:
        return self.publish(lambda description: remove(description, person))

    def _files(self, version: int) -> dict[str, bytes]:
        prefix = f"versions/{version}/"
        query = sa.select(DirectoryFile).where(DirectoryFile.name.startswith(prefix))
        with self.organisation.services.database.reading() as session:
            return {one.name.removeprefix(prefix): one.content for one in session.scalars(query)}
