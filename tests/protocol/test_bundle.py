"""Lists of hashes, headers and the index of a bundle have one form; nothing but a refusal comes of anything else."""

import itertools
import tarfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amana.protocol.bundle import (
    BLOCK,
    INDEX_LIMIT,
    MAX_FILES,
    MAX_LARGE_BYTES,
    TOP,
    BundleInvalid,
    check_follows,
    check_path,
    in_order,
    manifest_text,
    parse_index,
    parse_manifest,
    parse_tar_header,
    sign_index,
    tar_header,
)
from amana.protocol.encoding import canonical, parse_canonical
from amana.protocol.errors import ProtocolError
from amana.protocol.signing import SigningKey

PART = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,15}", fullmatch=True)
PATHS = st.lists(PART, min_size=1, max_size=5).map("/".join)
HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
ID, HASH = "b" * 32, "1" * 64
KEY = SigningKey.generate()
FIELDS: dict[str, Any] = {
    "deployment": "amana-demo",
    "case": ID,
    "export": ID,
    "to": ID,
    "purpose": "iiim",
    "identity_level": "anonymous",
    "maker": ID,
    "directory": 1,
    "made_on": "2026-11-24",
    "objects": [{"i": 0, "mime": "application/json", "path": "data/files/0.json"}],
    "released": [],
    "derived": [],
    "manifest_sha256": HASH,
    "tags": {"bagit.txt": HASH},
}
OUTSIDE = [
    "../x", "x/../y", "/etc/passwd", "x/", "/", "", ".", "..", ".x", "x//y", "x\\y", "x y", "ä", "x\n",
    "a/b/c/d/e/f", "x" * 91,
]  # fmt: skip


@given(st.dictionaries(PATHS, HASHES, max_size=8))
def test_a_list_is_read_as_it_was_written(listed: dict[str, str]) -> None:
    assert parse_manifest(manifest_text(listed)) == listed


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_list_leads_nowhere(path: str) -> None:
    with pytest.raises(BundleInvalid):
        check_path(path)
    with pytest.raises(BundleInvalid):
        parse_manifest(f"{HASH}  {path}\n".encode())


@pytest.mark.parametrize(
    "text",
    [
        f"{HASH}  b\n{HASH}  a\n", f"{HASH}  a\n{HASH}  a\n", f"{HASH}  a", f"{HASH} a\n", f"{HASH} *a\n",
        f"{HASH}  a\r\n", f"{HASH[:-1]}  a\n", f"{HASH.upper().replace('1', 'A')}  a\n", f"\n{HASH}  a\n", f"\\{HASH}  a\n",
    ],
)  # fmt: skip
def test_a_list_has_one_form(text: str) -> None:
    with pytest.raises(BundleInvalid):
        parse_manifest(text.encode())


def test_a_list_has_an_end() -> None:
    names = [f"x{number:06}" for number in range(MAX_FILES + 2)]
    with pytest.raises(BundleInvalid):
        parse_manifest(manifest_text(dict.fromkeys(names, HASH)))


@given(PATHS, st.integers(0, MAX_LARGE_BYTES))
def test_a_header_is_read_as_it_was_written_and_by_tar(path: str, size: int) -> None:
    block = tar_header(path, size)
    assert parse_tar_header(block) == (path, size)
    theirs = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    assert (theirs.name, theirs.size, theirs.isfile()) == (f"{TOP}/{path}", size, True)


@given(PATHS, st.integers(0, BLOCK - 1), st.integers(1, 255))
def test_no_byte_of_a_header_can_be_another(path: str, place: int, change: int) -> None:
    block = bytearray(tar_header(path, 77))
    block[place] ^= change
    with pytest.raises(BundleInvalid):
        parse_tar_header(bytes(block))


@given(st.binary(min_size=BLOCK, max_size=BLOCK))
def test_nothing_but_a_refusal_comes_of_garbage_for_a_header(block: bytes) -> None:
    if any(block):
        with pytest.raises(BundleInvalid):
            parse_tar_header(block)


def test_what_is_too_large_has_no_header() -> None:
    for size in (-1, MAX_LARGE_BYTES + 1):
        with pytest.raises(BundleInvalid):
            tar_header("x", size)


@given(st.binary(max_size=400))
def test_nothing_but_a_refusal_comes_of_garbage(data: bytes) -> None:
    for parse in (parse_manifest, parse_index):
        try:
            found = parse(data)
        except ProtocolError:
            continue
        assert found == {}
        assert data == b""


@given(st.sets(PATHS, min_size=2, max_size=8))
def test_there_is_one_order(paths: set[str]) -> None:
    ordered = in_order(paths)
    for before, path in itertools.pairwise(ordered):
        check_follows(before, path)
        for wrong in ((path, before), (path, path)):
            with pytest.raises(BundleInvalid):
                check_follows(*wrong)


# The index


def made(**changes: Any) -> bytes:
    return canonical(KEY.sign_fields("amana-bundle-v1", {"v": 1, **FIELDS, **changes}))


def test_an_index_is_read_as_it_was_signed() -> None:
    index = parse_index(sign_index(KEY, FIELDS))
    index.verify(KEY.public)
    assert (index.case, index.objects[0].path) == (ID, "data/files/0.json")
    with pytest.raises(ProtocolError):
        index.verify(SigningKey.generate().public)


DERIVED = {
    "kind": "translation", "of": 0, "maker": ID, "path": "data/derived/0.txt", "sha256": HASH, "source_sha256": HASH,
}  # fmt: skip
OBJECT = FIELDS["objects"][0]


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"more": 1},
        {"purpose": "fun"},
        {"identity_level": "all"},
        {"directory": -1},
        {"directory": True},
        {"made_on": "2026-13-01"},
        {"objects": []},
        {"objects": [{**OBJECT, "i": 1}]},
        {"objects": [OBJECT, OBJECT]},
        {"objects": [{**OBJECT, "path": "data/files/../0.json"}]},
        {"objects": [{**OBJECT, "path": "/data/files/0.json"}]},
        {"objects": [{**OBJECT, "path": "data/files/0.json\n"}]},
        {"objects": [{**OBJECT, "mime": "text"}]},
        {"derived": [{**DERIVED, "of": 1}]},
        {"derived": [{**DERIVED, "kind": "summary"}]},
        {"derived": [{**DERIVED, "path": "data/files/0.json"}]},
        {"released": [{"vault": "safe", "request": ID}]},
        {"released": [{"vault": "identity", "request": ID}] * 2},
        {"manifest_sha256": "x"},
        {"tags": {"../x": HASH}},
        {"tags": {"bagit.txt": "x"}},
        {"tags": {"bagit.txt": 1}},
        {"tags": []},
        {"case": "../" + "b" * 29},
        {"deployment": "x" * INDEX_LIMIT},
    ],
)
def test_an_index_out_of_its_form_is_refused(changes: dict[str, Any]) -> None:
    parse_index(made(derived=[DERIVED]))
    with pytest.raises(ProtocolError):
        parse_index(made(**changes))


@settings(deadline=None)
@given(st.data())
def test_a_changed_byte_of_an_index_is_refused_or_not_what_was_signed(data: st.DataObject) -> None:
    whole = bytearray(made(derived=[DERIVED]))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ProtocolError):
        parse_index(bytes(whole)).verify(KEY.public)
    assert parse_canonical(made(), limit=INDEX_LIMIT)["v"] == 1
