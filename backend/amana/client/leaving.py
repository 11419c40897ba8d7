# SPDX-License-Identifier: AGPL-3.0-or-later
"""A reader who lets parts of the vault leave in an export: under a release for that partner, and only then."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from amana.client.bundleidentity import release_path
from amana.client.errors import NotVerified
from amana.client.releases import NotReleased, ReleaseReader
from amana.client.reviewer import VerifiedCase, download, verifying
from amana.protocol.encoding import canonical, check_id
from amana.protocol.sealing import Identity
from amana.protocol.vault import OBJECT_KINDS, VAULTS


class VaultExporter(ReleaseReader):
    """Finds releases that let a vault leave, and opens what they release."""

    def releases_for(
        self, case: str, to: str, purpose: str, vaults: Iterable[str]
    ) -> list[dict[str, str]]:
        """Return one's release of each vault for a partner and purpose, as a request names them. Raises NotReleased."""
        wanted, found = sorted(set(vaults)), []
        own = self.releases(case) if wanted else []
        for vault in wanted:
            fitting = [
                one
                for one in own
                if (one.vault, one.to, one.purpose) == (vault, to, purpose)
                and one.is_open
                and one.released_on is not None
            ]
            if not fitting:
                raise NotReleased(
                    f"No custodians have released the {vault} to you for this partner and purpose;"
                    " ask them with 'reviewer request-identity --to'.",
                    slug="release-missing",
                )
            found.append({"vault": vault, "request": fitting[0].request})
        return found

    def open_vaults(
        self, case: VerifiedCase, releases: Mapping[str, str], directory: int, workplace: Path
    ) -> dict[int, Identity]:
        """Fetch the sealed objects of the vaults that are to leave; returns by their numbers what opens them."""
        keys: dict[int, Identity] = {}
        for vault, request in releases.items():
            entry = case.manifest.vault(vault)
            if entry is None:
                raise NotVerified("The manifest knows of no such vault.", slug="vault-missing")
            release = self._own(case.manifest.case, request)
            key, _, _ = self._take_key(release, case.manifest.case, entry, directory)
            parts = case.parts({OBJECT_KINDS[vault]})
            address = f"/v1/releases/{request}/objects"
            download(self._desk, parts, address, workplace, self._progress)
            keys |= {part.item.i: key for part in parts}
        return keys


def parse_releases(told: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the release of each vault as a server lists them; raises KeyError and ProtocolError."""
    found = {str(one["vault"]): check_id(one["request"]) for one in told}
    if not found.keys() <= set(VAULTS):
        raise KeyError
    return dict(sorted(found.items()))


def release_files(signed: Mapping[str, Any], releases: Mapping[str, str]) -> dict[str, bytes]:
    """Return what was signed about each release, as files of a bundle; `signed` are the server's words."""
    with verifying("the release"):
        return {release_path(one): canonical(signed["released"][one]) for one in releases}
