"""Proofs carried by hand: what was logged is proven offline; another leaf, place, tree or log is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.protocol.checkpoint import (
    Checkpoint,
    CheckpointQuorum,
    Cosigner,
    KeyType,
    NoteKey,
    cosign,
    log_key,
    sign_checkpoint,
    with_signatures,
)
from amana.protocol.encoding import unb64
from amana.protocol.errors import ProtocolError
from amana.protocol.merkle import ProofInvalid, inclusion_proof, leaf_hash, root_hash
from amana.protocol.signing import SigningKey
from amana.protocol.tiles import Edge, TileReader
from amana.protocol.tlogproof import LIMIT_BYTES, TlogProof

LOG = SigningKey(bytes(range(32)))
KEY = log_key("amana-test/custody", LOG.public)
ENTRIES = [bytes([number]) * 32 for number in range(20)]
TILES = Edge().grown([leaf_hash(one) for one in ENTRIES])[1]
READ = TileReader(TILES.__getitem__, len(ENTRIES))
NOTE = sign_checkpoint(LOG, Checkpoint(KEY.name, 20, root_hash(READ, 20)))


def proof_of(index: int, extra: bytes = b"") -> TlogProof:
    return TlogProof(index, tuple(inclusion_proof(READ, index, 20)), NOTE, extra)


# An entry of the public log Rekor with its proof, as npm sigstore's own tests hold it.
REKOR_KEY = log_key("log2025-1.rekor.sigstore.dev", "t8rlp1knGwjfbcXAYPYAkn0XiLz1x8O4t0YkEhie244=")
REKOR_ENTRY = unb64(
    "eyJhcGlWZXJzaW9uIjoiMC4wLjIiLCJraW5kIjoiaGFzaGVkcmVrb3JkIiwic3BlYyI6eyJoYXNoZWRSZWtvcmRWMDAyIjp7ImRhdGEiOnsi"
    "YWxnb3JpdGhtIjoiU0hBMl8yNTYiLCJkaWdlc3QiOiI1ZEoyU2FrVWVPWFk0dXQxaEJIUG9teitoVG42dGMwS1R6Y0dvc0ErZXBFPSJ9LCJz"
    "aWduYXR1cmUiOnsiY29udGVudCI6Ik1FWUNJUURjSk84Mm56MXJydHUxRHhTcHJ1WDFvZ0p1bThkbDRJaUdCTVB6M2pZY2JnSWhBS3dROHdO"
    "dTFPbjhwWWZoQUpDSzhPcVQwT09HVGgveUFRK0FuL2UzZC9kVSIsInZlcmlmaWVyIjp7ImtleURldGFpbHMiOiJQS0lYX0VDRFNBX1AyNTZf"
    "U0hBXzI1NiIsInB1YmxpY0tleSI6eyJyYXdCeXRlcyI6Ik1Ga3dFd1lIS29aSXpqMENBUVlJS29aSXpqMERBUWNEUWdBRTBxOVErdGRHMTk1"
    "Q1hLZm1VeDFZYXR2Wi9tTjNyaGpwT2ZtMWx2c2tXcHJIOVB4cGU5WGM2TGpFSmJCY1ZQaHV0a2ZVdkJCOVJEays0MlNORTYvNXhnPT0ifX19"
    "fX19"
)
REKOR_PROOF = (
    "c2sp.org/tlog-proof@v1\nindex 412114\n"
    "KIoYVJ0TqmaEkFboP7YWTjSh8vFjVECmokcTOAByfIM=\n"
    "Umf0h0cK2hegTzNnSgsXszyiA4bp5OvEvP+GrWq3C8w=\n"
    "vNQeSNBfepYZI2Ez3ViKdCft0JH87ZS8IGKwixxUVjc=\n"
    "JBAugd5awOqmHXIKgz1MOjlR5f37VqmP0bWoRVcHX5M=\n"
    "xYH2mAxGxfOgvSOLnItT2LsJt+Z2a2egjf8QJFwK7jA=\n"
    "PbZWM3NitzChx9A22m/kddDtzh2bAKX5Fy7j76l3z2k=\n"
    "sKX9Sbsahvw5DiC2oP6pbZsDi1NzuNS1nIULXkCC57o=\n"
    "pfTCxXHnCM253jwYxVJcuUhmoTTtDxznn92QhN0M4Ws=\n"
    "cJ8uk2ZvZyfg+HRILKOHcyHu2pvI8Fz3R1MyMvyzWtA=\n"
    "\nlog2025-1.rekor.sigstore.dev\n412115\n+8vUkEgBK/ansexBUomzocaWoPEmPIzxJC/y+xNMQN4=\n\n"
    "— log2025-1.rekor.sigstore.dev zxGZFahCZ/+MqTjH4rC5MWcdLDWbpetE5l30RZfQc4BQkRjWSoKipEUPjvHENeZDHIlAsuezJcLzUVvI"
    "tpNjaSRoMAs=\n"
)


def test_a_proof_of_a_public_log_verifies() -> None:
    proof = TlogProof.parse(REKOR_PROOF.encode())
    assert bytes(proof) == REKOR_PROOF.encode()
    assert proof.verify(REKOR_ENTRY, REKOR_KEY).checkpoint.size == 412_115
    with pytest.raises(ProofInvalid):
        proof.verify(REKOR_ENTRY + b" ", REKOR_KEY)


@given(st.integers(0, 19), st.binary(max_size=40))
def test_what_was_logged_is_proven_and_nothing_else(index: int, extra: bytes) -> None:
    proof = TlogProof.parse(bytes(proof_of(index, extra)))
    assert proof == proof_of(index, extra)
    assert proof.verify(ENTRIES[index], KEY).checkpoint.size == proof.size == 20
    for entry in (ENTRIES[(index + 1) % 20], b"", leaf_hash(ENTRIES[index])):
        with pytest.raises(ProofInvalid):
            proof.verify(entry, KEY)


@given(st.integers(0, 19), st.integers(0, 19))
def test_a_proof_for_another_leaf_or_place_is_refused(index: int, other: int) -> None:
    proof = TlogProof(other, proof_of(index).hashes, NOTE)
    if other == index:
        proof.verify(ENTRIES[index], KEY)
        return
    with pytest.raises(ProofInvalid) as refused:
        proof.verify(ENTRIES[index], KEY)
    assert refused.value.slug == "proof-invalid"


def test_a_proof_for_another_tree_size_or_log_is_refused() -> None:
    hashes = proof_of(3).hashes
    for checkpoint in (
        Checkpoint(KEY.name, 20, bytes(32)),
        Checkpoint(KEY.name, 200, root_hash(READ, 20)),
        Checkpoint(KEY.name, 3, root_hash(READ, 3)),
        Checkpoint("amana-test/directory", 20, root_hash(READ, 20)),
    ):
        with pytest.raises(ProtocolError):
            TlogProof(3, hashes, sign_checkpoint(LOG, checkpoint)).verify(ENTRIES[3], KEY)
    with pytest.raises(ProtocolError):
        proof_of(3).verify(ENTRIES[3], log_key(KEY.name, SigningKey.generate().public))


def test_a_quorum_may_be_demanded() -> None:
    key = SigningKey.generate()
    cosigners = [Cosigner("one", NoteKey("one/a", KeyType.COSIGNER, key.public))]
    with pytest.raises(CheckpointQuorum):
        proof_of(3).verify(ENTRIES[3], KEY, cosigners, 1)
    note = with_signatures(NOTE, [cosign("one/a", key, NOTE.text, 100)])
    proof = TlogProof(3, proof_of(3).hashes, note)
    assert TlogProof.parse(bytes(proof)).verify(ENTRIES[3], KEY, cosigners, 1).cosigned == {
        "one": 100
    }


@given(st.integers(0, len(bytes(proof_of(3, b"x"))) - 1), st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_in_what_is_not_authenticated(at: int, bit: int) -> None:
    data = bytearray(bytes(proof_of(3, b"x")))
    data[at] ^= 1 << bit
    try:
        proof = TlogProof.parse(bytes(data))
        proof.verify(ENTRIES[3], KEY)
    except ProtocolError:
        return
    assert (proof.index, proof.hashes, proof.checkpoint) == (3, proof_of(3).hashes, NOTE)


HEAD, _, REST = bytes(proof_of(3)).decode().partition("\nindex 3\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEAD,
        f"{HEAD}\nindex 03\n{REST}",
        f"{HEAD}\nindex -3\n{REST}",
        f"{HEAD}\nindex ٣\n{REST}",
        f"{HEAD}\nindex 3 \n{REST}",
        f"{HEAD}\n{REST}",
        f"{HEAD}\nextra\nindex 3\n{REST}",
        f"{HEAD}\nextra \nindex 3\n{REST}",
        f"{HEAD}\nextra ?\nindex 3\n{REST}",
        f"{HEAD}\nindex 3\nextra AA==\n{REST}",
        f"{HEAD}\nindex 3\nAAAA\n{REST}",
        f"{HEAD}\r\nindex 3\n{REST}",
        f" {HEAD}\nindex 3\n{REST}",
        f"c2sp.org/tlog-proof@v2\nindex 3\n{REST}",
        f"{HEAD}\nindex 3\n" + f"{REST.partition(chr(10))[0]}\n" * 64 + REST,
        f"{HEAD}\nindex 3\n{REST[:-1]}",
    ],
)
def test_what_is_no_proof_is_refused_as_such(text: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        TlogProof.parse(text.encode())
    assert refused.value.slug in {"proof-invalid", "checkpoint-invalid"}


def test_a_large_file_is_refused_unread() -> None:
    with pytest.raises(ProofInvalid):
        TlogProof.parse(bytes(LIMIT_BYTES + 1))


@given(st.binary(max_size=300))
def test_nothing_but_a_refusal_comes_of_garbage(data: bytes) -> None:
    for given_data in (data, b"c2sp.org/tlog-proof@v1\n" + data):
        with pytest.raises(ProtocolError):
            TlogProof.parse(given_data)
