# SPDX-License-Identifier: AGPL-3.0-or-later
"""What officers announce to those who watch the log: which directories and roots they are about to publish."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from amana.client.directory import signed_sha256
from amana.client.errors import NotVerified, Usage
from amana.client.officer import Proposal, read_json
from amana.protocol.directory import parse_directory
from amana.protocol.encoding import check_sha256_hex
from amana.protocol.errors import ProtocolError

MAX_ENTRIES: Final = 10_000


@dataclass(frozen=True)
class Expectations:
    """Hashes of what was signed, by version; a version that officers signed anew has another."""

    deployment: str
    directories: Mapping[int, str] = field(default_factory=dict)
    roots: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Expectations":
        """Read a file that `amana officer expect` wrote; raises Usage."""
        document = read_json(path)
        try:
            if set(document) != {"v", "deployment", "directories", "roots"} or document["v"] != 1:
                raise KeyError
            found = cls(
                str(document["deployment"]),
                _versions(document["directories"]),
                _versions(document["roots"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError):
            raise Usage(
                "This is not what 'amana officer expect' wrote.", slug="expectations-invalid"
            ) from None
        return found

    def announcing(self, proposals: Iterable[Proposal]) -> "Expectations":
        """Return the same with what proposals will publish; raises NotVerified for another installation's."""
        directories, roots = dict(self.directories), dict(self.roots)
        for one in proposals:
            # Loading a proposal has compared the deployments of its directory and its roots.
            if parse_directory(one.files).deployment != self.deployment:
                raise NotVerified(
                    "The proposal is of another installation.", slug="directory-tampered"
                )
            directories[one.targets.signed.version] = signed_sha256(one.targets)
            for root in (one.current_root, one.root):
                if root is not None:
                    roots[root.signed.version] = signed_sha256(root)
        return Expectations(self.deployment, directories, roots)

    def write(self, path: Path) -> None:
        """Write them for those who watch; raises Usage."""
        document = {
            "v": 1,
            "deployment": self.deployment,
            "directories": {str(k): v for k, v in sorted(self.directories.items())},
            "roots": {str(k): v for k, v in sorted(self.roots.items())},
        }
        draft = path.with_name(f"{path.name}.new")
        try:
            draft.write_text(json.dumps(document, indent=1) + "\n", "ascii")
            draft.replace(path)
        except OSError:
            raise Usage("The file of expectations cannot be written.") from None


def _versions(document: Mapping[str, Any]) -> dict[int, str]:
    if len(document) > MAX_ENTRIES:
        raise ValueError
    try:
        return {int(version): check_sha256_hex(sha256) for version, sha256 in document.items()}
    except ProtocolError:
        raise ValueError from None
