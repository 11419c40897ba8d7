# SPDX-License-Identifier: AGPL-3.0-or-later
"""The vault (docs/protocol.md §3.1): what tells who the witness is, under keys that k of n custodians hold in shares.

There is no field arithmetic: for every k of the custodians the seed is split by exclusive or. Any k of them have one
whole set; k - 1 hold random bytes that fit every seed.
"""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

from amana.protocol import schema
from amana.protocol.case import intake_key_id
from amana.protocol.encoding import (
    b32,
    b64,
    canonical,
    check_id,
    check_sha256_hex,
    parse_canonical,
    sha256_hex,
    tagged_sha256,
    unb64,
)
from amana.protocol.errors import CannotOpen, ProtocolError
from amana.protocol.sealing import (
    Identity,
    Kind,
    Recipient,
    check_sealed,
    open_sealed,
    seal,
    sealed_size,
)

IDENTITY: Final = "identity"
ORIGINALS: Final = "originals"
VAULTS: Final = (IDENTITY, ORIGINALS)
OBJECT_KINDS: Final = {IDENTITY: "identity", ORIGINALS: "original"}
"""What the objects of a vault are called in the manifest."""
MIN_K: Final = 2
"""With fewer, one custodian could open alone; such a directory has no vault."""
MAX_CUSTODIANS: Final = 5
MAX_OBJECTS: Final = 64
MAX_PIECES: Final = 15
"""In one request; 30 are the most that a custodian makes of one share (3 of 5)."""
SEED_BYTES: Final = 32
SHARE_SIZE: Final = sealed_size(256)
SHARES_LIMIT_BYTES: Final = 160 * 1024
"""Two vaults under 3 of 5 custodians have 60 shares, 154,000 bytes in Base64."""

Subset = tuple[str, ...]
"""Custodians who can open together, by id, sorted."""
Randomness = Callable[[int], bytes]

_SHARE: Final = "amana-vault-share-v1"
_PIECE: Final = "amana-vault-piece-v1"
_RELEASED: Final = "amana-vault-release-v1"


class VaultInvalid(ProtocolError):
    """The list of a vault's shares is not in its form, or not whole."""

    slug = "shares-invalid"
    title = "The shares of the vault are not in their form, or not all there."


class ShareMismatch(CannotOpen):
    """A share opens, but is of another case, vault, person or request than it came as."""

    slug = "share-mismatch"
    title = "The share is one of another case, vault, person or request."


class VaultKeyWrong(CannotOpen):
    """Shares that were put together do not give the key to which the witness sealed."""

    slug = "vault-key-wrong"
    title = "These shares together are not the key of the vault: one of them is wrong."


def vault_key_id(recipient: Recipient) -> str:
    """Return the short name of a vault's key, by which the manifest commits to it: 32 characters."""
    return b32(tagged_sha256("amana-vault-v1", recipient.raw)[:20])


def subset_id(subset: Iterable[str]) -> str:
    """Return the short name of a set of custodians, in whatever order they come: 32 characters."""
    return b32(tagged_sha256("amana-vault-subset-v1", canonical(sorted(subset)))[:20])


def subsets(custodians: Iterable[str], k: int) -> tuple[Subset, ...]:
    """Return every k of the custodians, in the order of ids."""
    return tuple(combinations(sorted(custodians), k))


# Splitting and putting together


def split(secret: bytes, count: int, randomness: Randomness = os.urandom) -> list[bytes]:
    """Split `secret` into `count` shares whose exclusive or it is; the last one makes it so."""
    shares = [randomness(len(secret)) for _ in range(count - 1)]
    return [*shares, xor([secret, *shares])]


def xor(parts: Sequence[bytes]) -> bytes:
    """Return the exclusive or of strings of equal length."""
    total = bytes(len(parts[0]))
    for part in parts:
        total = bytes(a ^ b for a, b in zip(total, part, strict=True))
    return total


def combine(shares: Sequence[bytes], key: str) -> Identity:
    """Return the identity whose seed the shares of one set make; raises VaultKeyWrong unless it is the one called `key`."""
    identity = Identity.from_seed(xor(shares))
    if vault_key_id(identity.recipient) != key:
        raise VaultKeyWrong
    return identity


# What is listed of a vault


@dataclass(frozen=True)
class Holder:
    """A custodian as labels name them: id, and the short name of the intake key to which their shares are sealed."""

    custodian: str
    intake_key: str


@dataclass(frozen=True)
class VaultEntry:
    """One vault as manifest and receipt list it: its key's short name, who holds it, its objects, the hash of each share.

    Hashes stand in the order of `places`.
    """

    vault: str
    key: str
    k: int
    holders: tuple[Holder, ...]
    objects: tuple[int, ...]
    sha256: tuple[str, ...]

    @property
    def custodians(self) -> tuple[str, ...]:
        return tuple(one.custodian for one in self.holders)

    @property
    def places(self) -> list[tuple[Subset, str]]:
        """Return set and custodian of each share: every set in the order of ids, in it every custodian."""
        return places(self.custodians, self.k)

    def document(self) -> dict[str, Any]:
        """Return the entry as it stands in manifest and receipt."""
        return {**self._common(), "sha256": list(self.sha256)}

    def _common(self) -> dict[str, Any]:
        return {
            "vault": self.vault,
            "key": self.key,
            "k": self.k,
            "custodians": [vars(one) for one in self.holders],
            "objects": list(self.objects),
        }

    def with_shares(self, shares: Sequence[bytes]) -> dict[str, Any]:
        """Return the entry as it travels with its shares."""
        return {**self._common(), "sealed": [b64(one) for one in shares]}


def places(custodians: Iterable[str], k: int) -> list[tuple[Subset, str]]:
    """Return set and custodian of each share of a vault, in the order in which they are listed."""
    return [(subset, one) for subset in subsets(custodians, k) for one in subset]


@dataclass(frozen=True)
class SealedVault:
    """A vault with its sealed shares, in the order of its places."""

    entry: VaultEntry
    shares: tuple[bytes, ...]


def seal_vault(
    identity: Identity,
    *,
    case: str,
    vault: str,
    custodians: Mapping[str, Recipient],
    k: int,
    objects: Iterable[int],
    randomness: Randomness = os.urandom,
) -> SealedVault:
    """Split a vault's key among the custodians and seal each share to its holder; raises VaultInvalid."""
    shares = []
    for subset in subsets(custodians, k):
        for custodian, share in zip(
            subset, split(identity.seed, len(subset), randomness), strict=True
        ):
            text = share_text(share, case=case, vault=vault, custodian=custodian, subset=subset)
            shares.append(seal(text, custodians[custodian], Kind.SHARE))
    entry = VaultEntry(
        vault=vault,
        key=vault_key_id(identity.recipient),
        k=k,
        holders=tuple(Holder(one, intake_key_id(custodians[one])) for one in sorted(custodians)),
        objects=tuple(sorted(objects)),
        sha256=tuple(map(sha256_hex, shares)),
    )
    parse_entry(entry.document())
    return SealedVault(entry, tuple(shares))


def parse_entry(document: object) -> VaultEntry:
    """Parse one vault as manifest and receipt list it."""
    fields = schema.checked_by({**_ENTRY, "sha256": _is_list}, document, VaultInvalid.slug)
    hashes = tuple(check_sha256_hex(one) for one in fields["sha256"])
    return _whole(fields, hashes)


def parse_entries(documents: object) -> tuple[VaultEntry, ...]:
    """Parse the vaults of a testimony: one or both, in their order."""
    if not isinstance(documents, list) or len(documents) > len(VAULTS):
        raise VaultInvalid
    return _in_order([parse_entry(one) for one in documents])


def parse_shares(data: bytes) -> tuple[SealedVault, ...]:
    """Parse the part `shares` of a submission, `[]` when there is no vault, and check the form of every share."""
    listed = parse_canonical(data, limit=SHARES_LIMIT_BYTES)
    if not isinstance(listed, list) or len(listed) > len(VAULTS):
        raise VaultInvalid
    found = [_sealed(one) for one in listed]
    _in_order([one.entry for one in found])
    return tuple(found)


def shares_bytes(vaults: Iterable[SealedVault]) -> bytes:
    """Return the part `shares` of a submission."""
    return canonical([one.entry.with_shares(one.shares) for one in vaults])


def _sealed(document: object) -> SealedVault:
    fields = schema.checked_by({**_ENTRY, "sealed": _is_list}, document, VaultInvalid.slug)
    shares = tuple(unb64(one, SHARE_SIZE) for one in fields["sealed"])
    entry = _whole(fields, tuple(map(sha256_hex, shares)))
    for share in shares:
        check_sealed(Kind.SHARE, share, len(share))
    return SealedVault(entry, shares)


def _whole(fields: Mapping[str, Any], hashes: tuple[str, ...]) -> VaultEntry:
    """Return an entry of checked fields; custodians and objects are in order, and no share is missing or too many."""
    holders = tuple(_holder(one) for one in fields["custodians"])
    entry = VaultEntry(
        vault=fields["vault"],
        key=fields["key"],
        k=fields["k"],
        holders=holders,
        objects=tuple(fields["objects"]),
        sha256=hashes,
    )
    ids, objects = list(entry.custodians), list(entry.objects)
    if not (
        ids == sorted(set(ids))
        and MIN_K <= entry.k <= len(ids) <= MAX_CUSTODIANS
        and all(schema.is_counting(one) and one > 0 for one in objects)
        and 0 < len(objects) < MAX_OBJECTS
        and objects == sorted(set(objects))
        and len(hashes) == len(entry.places)
    ):
        raise VaultInvalid
    return entry


def _holder(document: object) -> Holder:
    fields = schema.checked_by(_HOLDER, document, VaultInvalid.slug)
    return Holder(fields["custodian"], fields["intake_key"])


def _in_order(entries: Sequence[VaultEntry]) -> tuple[VaultEntry, ...]:
    names = [one.vault for one in entries]
    objects = [i for one in entries for i in one.objects]
    if names != sorted(set(names)) or len(objects) != len(set(objects)):
        raise VaultInvalid
    return tuple(entries)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


_ENTRY: Final[Mapping[str, schema.Check]] = {
    "vault": schema.among(*VAULTS),
    "key": check_id,
    "k": schema.is_counting,
    "custodians": _is_list,
    "objects": _is_list,
}
_HOLDER: Final[Mapping[str, schema.Check]] = {"custodian": check_id, "intake_key": check_id}


# Shares, sealed to custodians by the witness


def share_text(share: bytes, *, case: str, vault: str, custodian: str, subset: Subset) -> bytes:
    """Return what is sealed: a share, and of what, whose and of which set it is."""
    return _text(_SHARE, [case, vault, custodian, subset_id(subset)], share)


def open_share(
    sealed: bytes, identity: Identity, *, case: str, vault: str, custodian: str, subset: Subset
) -> bytes:
    """Open a share and return its 32 bytes; raises ShareMismatch where it is another one than it came as."""
    names = [case, vault, custodian, subset_id(subset)]
    return _opened(sealed, identity, _SHARE, names)


# Shares, sealed by custodians to the reader to whom a vault is released


def seal_released(
    share: bytes,
    reader: Recipient,
    *,
    request: str,
    case: str,
    vault: str,
    to: str,
    custodian: str,
    subset: Subset,
) -> bytes:
    """Seal a custodian's share to the reader `to`, for one request; returns 1915 bytes."""
    text = released_text(
        share, request=request, case=case, vault=vault, to=to, custodian=custodian, subset=subset
    )
    return seal(text, reader, Kind.SHARE)


def released_text(
    share: bytes, *, request: str, case: str, vault: str, to: str, custodian: str, subset: Subset
) -> bytes:
    """Return what is sealed to a reader."""
    return _text(_RELEASED, [request, case, vault, to, custodian, subset_id(subset)], share)


def open_released(
    sealed: bytes,
    identity: Identity,
    *,
    request: str,
    case: str,
    vault: str,
    to: str,
    custodian: str,
    subset: Subset,
) -> bytes:
    """Open what a custodian sealed to a reader for a request; raises ShareMismatch."""
    names = [request, case, vault, to, custodian, subset_id(subset)]
    return _opened(sealed, identity, _RELEASED, names)


# Re-sharing: custodians come and go, and nobody holds the seed meanwhile


@dataclass(frozen=True)
class Resharing:
    """What has to happen to the sets of a vault when the custodians are others than when it was sealed."""

    sources: tuple[Subset, ...]
    """Sets all of whose members are still there: each can make the new shares."""
    missing: tuple[Subset, ...]
    superfluous: tuple[Subset, ...]

    @property
    def is_needed(self) -> bool:
        return bool(self.missing or self.superfluous)

    @property
    def is_lost(self) -> bool:
        """Tell whether too few are left: nobody can open the vault or share it anew."""
        return not self.sources


def resharing(
    stored: Collection[Subset],
    custodians: Collection[str],
    k: int,
    stale: Collection[Subset] = (),
) -> Resharing:
    """Compare the sets of a vault that have shares with those that today's custodians must have.

    `stale` are those of the stored sets in which a share is sealed to a key that was replaced.
    """
    wanted = subsets(custodians, k)
    there = frozenset(custodians)
    return Resharing(
        sources=tuple(sorted(one for one in stored if there.issuperset(one))),
        missing=tuple(one for one in wanted if one not in stored or one in stale),
        superfluous=tuple(sorted(set(stored) - set(wanted))),
    )


@dataclass(frozen=True)
class Piece:
    """What one custodian of an old set adds to a new custodian's share."""

    subset: Subset
    custodian: str
    sealed: bytes


def seal_pieces(
    share: bytes,
    custodians: Mapping[str, Recipient],
    missing: Iterable[Subset],
    *,
    case: str,
    vault: str,
    maker: str,
    source: Subset,
    randomness: Randomness = os.urandom,
) -> list[Piece]:
    """Split one's own share of the set `source` among the members of each missing set.

    Whoever gets the pieces of all makers of one source has a share: the exclusive or over makers and members is the seed.
    """
    return [
        Piece(
            subset,
            custodian,
            seal(
                piece_text(
                    piece,
                    case=case,
                    vault=vault,
                    maker=maker,
                    source=source,
                    custodian=custodian,
                    subset=subset,
                ),
                custodians[custodian],
                Kind.SHARE,
            ),
        )
        for subset in missing
        for custodian, piece in zip(subset, split(share, len(subset), randomness), strict=True)
    ]


def piece_text(
    piece: bytes,
    *,
    case: str,
    vault: str,
    maker: str,
    source: Subset,
    custodian: str,
    subset: Subset,
) -> bytes:
    """Return what is sealed as a piece."""
    names = [case, vault, maker, subset_id(source), custodian, subset_id(subset)]
    return _text(_PIECE, names, piece)


def open_pieces(
    sealed: Mapping[str, tuple[bytes, Identity]],
    *,
    case: str,
    vault: str,
    custodian: str,
    subset: Subset,
) -> bytes:
    """Put the pieces of all makers of one source together, and return the share.

    `sealed` holds by maker the bytes and the key to open them; a maker too few or too many, or of another source,
    is a ShareMismatch.
    """
    if not sealed:
        raise ShareMismatch
    source = subset_id(sealed)
    return xor(
        [
            _opened(
                data, identity, _PIECE, [case, vault, maker, source, custodian, subset_id(subset)]
            )
            for maker, (data, identity) in sealed.items()
        ]
    )


def _text(tag: str, names: Sequence[str], secret: bytes) -> bytes:
    return "".join(f"{line}\n" for line in (tag, *names, b64(secret))).encode("ascii")


def _opened(sealed: bytes, identity: Identity, tag: str, names: Sequence[str]) -> bytes:
    """Open lines of text whose last one is a secret, if they begin as expected."""
    content = open_sealed(sealed, identity, Kind.SHARE)
    try:
        *said, secret, rest = content.decode("ascii").split("\n")
        if said != [tag, *names] or rest:
            raise ShareMismatch
        return unb64(secret, SEED_BYTES)
    except ShareMismatch:
        raise
    except (ProtocolError, ValueError):
        raise ShareMismatch from None
