# SPDX-License-Identifier: AGPL-3.0-or-later
"""The bundle that leaves with proof (docs/protocol.md §15): a BagIt bag (RFC 8493), its one tar form, its signed index.

Names of files are ours alone: a few letters, no witness's words. So nothing in a bundle can lead out of its
folder, and two systems never read one name differently.
"""

import re
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import marshmallow as ma

from amana.protocol import schema
from amana.protocol.encoding import canonical, check_sha256_hex, parse_canonical
from amana.protocol.errors import ProtocolError
from amana.protocol.policy import IDENTITY_LEVELS, is_scope
from amana.protocol.signing import SigningKey, verify_fields
from amana.protocol.vault import VAULTS

TAG: Final = "amana-bundle-v1"
TOP: Final = "amana-bundle"
"""The one folder in the tar."""

BAGIT: Final = "bagit.txt"
BAG_INFO: Final = "bag-info.txt"
MANIFEST: Final = "manifest-sha256.txt"
TAG_MANIFEST: Final = "tagmanifest-sha256.txt"
INDEX: Final = "bundle.json"
READMES: Final = ("README.ar.txt", "README.en.txt")
DATA: Final = "data/"
STAMPS: Final = "data/stamps/"
LARGE: Final = ("data/derived/", "data/files/", "data/sealed/")
"""What is streamed; everything else is small, and stands before it."""

BAGIT_TEXT: Final = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
MAX_FILES: Final = 40_000
MAX_SMALL_BYTES: Final = 1024 * 1024
MAX_SMALL_TOTAL: Final = 128 * 2**20
MAX_LARGE_BYTES: Final = 8 * 2**30 - 1  # What the size field of a ustar header holds.
INDEX_LIMIT: Final = 512 * 1024
BLOCK: Final = 512
MAX_DERIVED: Final = 1000
DERIVED_KINDS: Final = ("translation", "redaction")

_PART: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,89}"
_PATH: Final = re.compile(rf"(?:{_PART}/){{0,4}}{_PART}")
_LINE: Final = re.compile(r"([0-9a-f]{64})  ([!-~]{1,200})\n")


class BundleInvalid(ProtocolError):
    """A bundle is not whole, holds what does not belong there, or is not in its one form."""

    slug = "bundle-invalid"
    title = "The bundle is not in its form."


def check_path(path: str) -> str:
    """Return a path that a bundle may hold: at most five parts of plain letters, 100 characters, and no way out."""
    if len(path) > 100 - len(TOP) - 1 or not _PATH.fullmatch(path):
        raise BundleInvalid("bundle-path", "The bundle holds a file under a name that is not ours.")
    return path


def is_large(path: str) -> bool:
    """Tell whether a file of a bundle is streamed."""
    return path.startswith(LARGE)


def in_order(paths: Iterable[str]) -> list[str]:
    """Return paths in the one order of a bundle: what is small first, both sorted, openings before what they open."""
    return sorted(paths, key=_place)


def _place(path: str) -> tuple[bool, str]:
    return is_large(path), path


def stands_before(path: str, other: str) -> bool:
    """Tell whether a file is another, or has its place before it in the one order of a bundle."""
    return _place(path) <= _place(other)


def check_follows(before: str | None, path: str) -> None:
    """Refuse a file that stands twice, or not in its order."""
    if before is not None and _place(before) >= _place(path):
        raise BundleInvalid("bundle-order", "The files of the bundle are not in their one order.")


def tar_header(path: str, size: int) -> bytes:
    """Return the one header of a file: ustar, owner 0, no times."""
    if not 0 <= size <= MAX_LARGE_BYTES:
        raise BundleInvalid("bundle-size", "A file of the bundle is too large.")
    info = tarfile.TarInfo(f"{TOP}/{check_path(path)}")
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


def parse_tar_header(block: bytes) -> tuple[str, int] | None:
    """Read a header; None for the end. Only what `tar_header` writes is one: no link, no folder, no other owner."""
    if block == bytes(BLOCK):
        return None
    try:
        name = block[:100].rstrip(b"\0").decode("ascii")
        size = int(block[124:135].decode("ascii"), 8)
    except ValueError:
        raise BundleInvalid(
            "bundle-tar", "The archive is not in the form of a bundle's archive."
        ) from None
    top, _, path = name.partition("/")
    if top != TOP or tar_header(path, size) != block:
        raise BundleInvalid("bundle-tar", "The archive is not in the form of a bundle's archive.")
    return path, size


def tar_padding(size: int) -> bytes:
    """Return what follows a file of `size` bytes."""
    return bytes(-size % BLOCK)


TAR_END: Final = bytes(2 * BLOCK)


def tar_size(sizes: Iterable[int]) -> int:
    """Return the length of an archive of files of these sizes."""
    return sum(BLOCK + size + -size % BLOCK for size in sizes) + len(TAR_END)


def manifest_text(hashes: Mapping[str, str]) -> bytes:
    """Return a manifest of hex SHA-256 by path, as `sha256sum` writes and checks it."""
    return "".join(f"{hashes[path]}  {path}\n" for path in sorted(hashes)).encode("ascii")


def parse_manifest(data: bytes) -> dict[str, str]:
    """Read a manifest that is sorted and in the one form that `manifest_text` writes."""
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise _bad_manifest() from None
    found: dict[str, str] = {}
    place = 0
    while place < len(text):
        line = _LINE.match(text, place)
        if line is None or len(found) > MAX_FILES:
            raise _bad_manifest()
        found[check_path(line[2])] = check_sha256_hex(line[1])
        place = line.end()
    if manifest_text(found) != data:
        raise _bad_manifest()
    return found


def _bad_manifest() -> BundleInvalid:
    return BundleInvalid("bundle-manifest", "A list of hashes is not in its form.")


# The index


class _Object(schema.StrictSchema):
    i = schema.counting()
    mime = schema.pattern(r"\A[a-z0-9!#$&^_.+-]{1,63}/[a-z0-9!#$&^_.+-]{1,127}\Z")
    path = schema.pattern(r"\Adata/files/[0-9]{1,2}\.[a-z0-9]{1,8}\Z", allow_none=True)


class _Derived(schema.StrictSchema):
    kind = schema.one_of(*DERIVED_KINDS)
    of = schema.counting()
    maker = schema.identifier()
    path = schema.pattern(r"\Adata/derived/[0-9]{1,4}\.[a-z0-9]{1,8}\Z")
    sha256 = schema.sha256_hex()
    source_sha256 = schema.sha256_hex()


class _Released(schema.StrictSchema):
    vault = schema.one_of(*VAULTS)
    request = schema.identifier()


class _Index(schema.StrictSchema):
    v = schema.one_of(1)
    deployment = schema.text(64)
    case = schema.identifier()
    export = schema.identifier()
    to = schema.identifier()
    purpose = schema.text(64)
    identity_level = schema.one_of(*IDENTITY_LEVELS)
    maker = schema.identifier()
    directory = schema.counting()
    made_on = schema.day()
    objects = ma.fields.List(
        ma.fields.Nested(_Object), required=True, validate=ma.validate.Length(1, 64)
    )
    released = ma.fields.List(
        ma.fields.Nested(_Released), required=True, validate=ma.validate.Length(max=len(VAULTS))
    )
    derived = ma.fields.List(
        ma.fields.Nested(_Derived), required=True, validate=ma.validate.Length(max=MAX_DERIVED)
    )
    manifest_sha256 = schema.sha256_hex()
    tags = ma.fields.Dict(required=True)
    sig = schema.base64_of(64)


_INDEX = _Index()


@dataclass(frozen=True)
class Bundled:
    """One object of the testimony in a bundle; without a path it stays closed."""

    i: int
    mime: str
    path: str | None


@dataclass(frozen=True)
class Derived:
    """A translation or redaction: of which object, by whom; `source_sha256` is of that object as it was sealed."""

    kind: str
    of: int
    maker: str
    path: str
    sha256: str
    source_sha256: str


@dataclass(frozen=True)
class Released:
    """A vault whose objects are in a bundle, and the request by which custodians released it for that."""

    vault: str
    request: str


@dataclass(frozen=True)
class Index:
    """What a bundle says of itself; `verify` shows that its maker signed it."""

    deployment: str
    case: str
    export: str
    to: str
    purpose: str
    identity_level: str
    maker: str
    directory: int
    made_on: str
    objects: tuple[Bundled, ...]
    released: tuple[Released, ...]
    derived: tuple[Derived, ...]
    manifest_sha256: str
    tags: Mapping[str, str]
    document: Mapping[str, Any]

    def verify(self, signing_key: str) -> None:
        """Verify the maker's signature."""
        verify_fields(signing_key, TAG, dict(self.document))


def sign_index(key: SigningKey, fields: Mapping[str, Any]) -> bytes:
    """Return the signed index of a bundle, canonical; `fields` are all but `v` and `sig`."""
    data = canonical(key.sign_fields(TAG, {"v": 1, **fields}))
    parse_index(data)
    return data


def parse_index(data: bytes) -> Index:
    """Read an index; the caller verifies it with the key that the directory lists for its maker."""
    document = parse_canonical(data, limit=INDEX_LIMIT)
    fields = schema.checked(_INDEX, document, "bundle-index")
    for path, digest in fields["tags"].items():
        check_path(path)
        check_sha256_hex(digest)
    if not is_scope(fields["purpose"]):
        raise schema.Fault("bundle-index", "The bundle is for a purpose that there is not.")
    objects = tuple(Bundled(**one) for one in fields["objects"])
    numbers = [one.i for one in objects]
    # What lies in a vault and does not leave has numbers too.
    if numbers[0] != 0 or numbers != sorted(set(numbers)):
        raise schema.Fault("bundle-index", "The objects of the bundle are not counted from 0.")
    vaults = [one["vault"] for one in fields["released"]]
    if vaults != sorted(set(vaults)):
        raise schema.Fault("bundle-index", "A vault is listed twice, or not in its order.")
    if any(one["of"] not in numbers for one in fields["derived"]):
        raise schema.Fault("bundle-index", "A derivative names no object of the bundle.")
    lists = {"objects", "derived", "released"}
    rest = {k: v for k, v in fields.items() if k not in {"v", "sig", *lists}}
    return Index(
        objects=objects,
        released=tuple(Released(**one) for one in fields["released"]),
        derived=tuple(Derived(**one) for one in fields["derived"]),
        document=document,
        **rest,
    )


def sealed_path(i: int) -> str:
    return f"data/sealed/{i}.age"


def opening_path(i: int) -> str:
    return f"data/openings/{i}.json"


def stamp_path(number: int, name: str) -> str:
    """Return the path of a file that belongs to a stamped checkpoint; they are counted from 1."""
    return f"{STAMPS}{number}/{name}"
