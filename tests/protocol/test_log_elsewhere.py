"""Other implementations and ours judge each other's trees, checkpoints and proofs alike; the vectors still hold."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import ConsistencyProof, InclusionProof, InmemoryTree, InvalidProof
from pymerkle.core import _consistency_path_layout, _inclusion_path_layout

from amana.protocol.checkpoint import Cosigner, NoteKey, open_checkpoint
from amana.protocol.encoding import b64, unb64
from amana.protocol.merkle import (
    ProofInvalid,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_hash,
    subtree_hash,
    verify_consistency,
    verify_inclusion,
)
from amana.protocol.tiles import Edge, Tile, TileReader
from amana.protocol.tlogproof import TlogProof
from scripts.make_vectors_log import TARGET, entry, text
from tests.support.node import ask_node

VECTORS: dict[str, Any] = json.loads(Path(TARGET).read_text("utf-8"))
SIZE = 600
ENTRIES = [entry(number) for number in range(SIZE)]
TILES = Edge().grown([leaf_hash(one) for one in ENTRIES])[1]
READ = TileReader(TILES.__getitem__, SIZE)
THEIRS = InmemoryTree(algorithm="sha256")
THEIRS.append_entries(ENTRIES)


def test_the_same_inputs_still_make_the_same_bytes() -> None:
    assert Path(TARGET).read_text("utf-8") == text()


def subproof(old: int, start: int, end: int, is_whole: bool) -> list[tuple[int, int]]:
    """Return the spans of SUBPROOF in RFC 6962 §2.1.2, word for word."""
    if old == end:
        return [] if is_whole else [(start, end)]
    split = 1
    while split * 2 < end - start:
        split *= 2
    if old - start <= split:
        return [*subproof(old, start, start + split, is_whole), (start + split, end)]
    return [*subproof(old, start + split, end, False), (start, start + split)]


def joined(known: dict[tuple[int, int], bytes], start: int, end: int) -> bytes:
    """Return the hash of a subtree from those of its parts; pymerkle's path goes down to single leaves."""
    if (start, end) in known:
        return known[start, end]
    split = 1
    while split * 2 < end - start:
        split *= 2
    return node_hash(joined(known, start, start + split), joined(known, start + split, end))


@settings(deadline=None)
@given(st.integers(1, SIZE), st.data())
def test_pymerkle_accepts_our_proofs_and_we_accept_its(size: int, data: st.DataObject) -> None:
    root = root_hash(READ, size)
    assert THEIRS.get_root(size) == root
    index = data.draw(st.integers(0, size - 1))
    leaf, ours = leaf_hash(ENTRIES[index]), inclusion_proof(READ, index, size)
    rule, _ = _inclusion_path_layout(index + 1, size)
    InclusionProof("sha256", True, size, index + 1, rule, [leaf, *ours]).verify(leaf, root)
    theirs = THEIRS.prove_inclusion(index + 1, size).path
    assert theirs[0] == leaf
    verify_inclusion(leaf, index, size, theirs[1:], root)


@settings(deadline=None)
@given(st.integers(1, SIZE), st.data())
def test_pymerkle_and_we_agree_on_continuations(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size))
    old_root, root = root_hash(READ, old), root_hash(READ, size)
    rule, subset, spans = _consistency_path_layout(old, size)
    path = [subtree_hash(READ, *span) for span in spans]
    ConsistencyProof("sha256", True, size, old, rule, subset, path).verify(old_root, root)
    proof = THEIRS.prove_consistency(old, size)
    theirs = dict(zip(spans, proof.path, strict=True))
    translated = [joined(theirs, *span) for span in subproof(old, 0, size, True)]
    assert translated == consistency_proof(READ, old, size)
    verify_consistency(old, size, old_root, root, translated)


def test_pymerkle_and_we_refuse_the_same_forged_path() -> None:
    forged = [bytes(32), *inclusion_proof(READ, 5, SIZE)[1:]]
    leaf, root = leaf_hash(ENTRIES[5]), root_hash(READ, SIZE)
    rule, _ = _inclusion_path_layout(6, SIZE)
    with pytest.raises(InvalidProof):
        InclusionProof("sha256", True, SIZE, 6, rule, [leaf, *forged]).verify(leaf, root)
    with pytest.raises(ProofInvalid):
        verify_inclusion(leaf, 5, SIZE, forged, root)


def test_sigstore_accepts_our_proofs_and_refuses_what_we_refuse() -> None:
    root = b64(root_hash(READ, SIZE))
    questions = [
        {
            "task": "inclusion",
            "entry": b64(ENTRIES[index]),
            "index": place,
            "size": SIZE,
            "root": root,
            "hashes": [b64(one) for one in inclusion_proof(READ, index, SIZE)],
        }
        for index, place in [*((n, n) for n in range(0, SIZE, 7)), (5, 6), (599, 598), (0, 600)]
    ]
    answers = [one["ok"] for one in ask_node("log.mjs", questions)]
    assert answers == [True] * len(range(0, SIZE, 7)) + [False] * 3


def test_sigstore_and_node_accept_checkpoints_cosignatures_and_proofs_of_the_vectors() -> None:
    vkey = VECTORS["checkpoint"]["vkey"]
    note, cosigned = VECTORS["checkpoint"]["note"], VECTORS["cosignature"]
    changed = note.replace("70000", "70001")
    questions = [
        {"task": "checkpoint", "note": note, "vkey": vkey},
        {"task": "checkpoint", "note": cosigned["note"], "vkey": vkey},
        {"task": "cosignature", "note": cosigned["note"], "vkey": cosigned["vkey"]},
        *(
            {"task": "proof", "proof": proof, "entry": b64(entry(int(number))), "vkey": vkey}
            for number, proof in VECTORS["proofs"].items()
        ),
        {"task": "checkpoint", "note": changed, "vkey": vkey},
        {"task": "proof", "proof": VECTORS["proofs"]["0"], "entry": b64(b"other"), "vkey": vkey},
    ]
    answers = ask_node("log.mjs", questions)
    root = b64(bytes.fromhex(VECTORS["roots"]["70000"]))
    assert answers[0] == answers[1] == {"ok": True, "size": "70000", "root": root}
    assert answers[2] == {"ok": True, "time": str(cosigned["time"])}
    assert [one["ok"] for one in answers[3:]] == [True] * len(VECTORS["proofs"]) + [False, False]


def test_the_vectors_are_true() -> None:
    for size, root in VECTORS["roots"].items():
        if int(size) <= SIZE:
            assert root_hash(READ, int(size)).hex() == root
    for one in VECTORS["inclusion"]:
        hashes = [bytes.fromhex(each) for each in one["hashes"]]
        root = bytes.fromhex(VECTORS["roots"][str(one["size"])])
        verify_inclusion(leaf_hash(entry(one["index"])), one["index"], one["size"], hashes, root)
    for one in VECTORS["consistency"]:
        roots = (bytes.fromhex(VECTORS["roots"][str(one[each])]) for each in ("old", "size"))
        hashes = [bytes.fromhex(each) for each in one["hashes"]]
        verify_consistency(one["old"], one["size"], *roots, hashes)
    for one in VECTORS["addresses"]:
        assert Tile.parse(one["path"]).path == one["path"]
    key = NoteKey.parse(VECTORS["checkpoint"]["vkey"])
    cosigner = Cosigner("one", NoteKey.parse(VECTORS["cosignature"]["vkey"]))
    signed = open_checkpoint(VECTORS["cosignature"]["note"].encode(), key, [cosigner], 1)
    assert signed.cosigned == {"one": VECTORS["cosignature"]["time"]}
    for number, proof in VECTORS["proofs"].items():
        TlogProof.parse(proof.encode()).verify(entry(int(number)), key)
    assert len(unb64(VECTORS["checkpoint"]["seed"])) == 32
