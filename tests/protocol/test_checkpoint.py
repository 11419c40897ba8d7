"""Checkpoints: what the log and its cosigners signed is read again, what anybody else made is refused."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amana.protocol.checkpoint import (
    LIMIT_BYTES,
    MAX_SIGNATURES,
    MAX_TIME,
    Checkpoint,
    CheckpointInvalid,
    CheckpointOrigin,
    CheckpointQuorum,
    Cosigner,
    KeyType,
    Note,
    NoteKey,
    Signature,
    cosign,
    log_key,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
    parse_signatures,
    sign_checkpoint,
    with_signatures,
)
from amana.protocol.encoding import b64
from amana.protocol.errors import ProtocolError
from amana.protocol.merkle import MAX_SIZE
from amana.protocol.signing import SigningKey

LOG = SigningKey(bytes(range(32)))
ORIGIN = "amana-test/custody"
KEY = log_key(ORIGIN, LOG.public)
CHECKPOINT = Checkpoint(ORIGIN, 20, bytes(range(32)))
NOTE = sign_checkpoint(LOG, CHECKPOINT)
COSIGNING = {name: SigningKey.generate() for name in ("one/a", "one/b", "two/a", "three/a")}
COSIGNERS = [
    Cosigner(name.partition("/")[0], NoteKey(name, KeyType.COSIGNER, key.public))
    for name, key in COSIGNING.items()
]

# A checkpoint of the public log Rekor (shard log2025-1, 20 July 2026) and the key that Sigstore's trust root lists.
REKOR_KEY = "t8rlp1knGwjfbcXAYPYAkn0XiLz1x8O4t0YkEhie244="
REKOR = (
    "log2025-1.rekor.sigstore.dev\n34356369\ndA9mMr0smTXgo7nGsE01Zdc5KOOqTs2/zYfdSqxO+ks=\n\n"
    "— log2025-1.rekor.sigstore.dev zxGZFQZgTebN28s0D7vKP5gX8R+CsXCved700HCQAHgDHbdkaH3tfx7+DMPkccNhzsnSy7LijLzWMa"
    "+evZduylLs0wc=\n"
)


def cosigned(*names: str, time: int = 1_795_000_000) -> Note:
    return with_signatures(NOTE, [cosign(name, COSIGNING[name], NOTE.text, time) for name in names])


def test_a_checkpoint_of_a_public_log_verifies() -> None:
    key = log_key("log2025-1.rekor.sigstore.dev", REKOR_KEY)
    assert b64(key.id) == "zxGZFQ=="
    signed = open_checkpoint(REKOR.encode(), key)
    assert signed.checkpoint.size == 34_356_369
    with pytest.raises(CheckpointInvalid):
        open_checkpoint(REKOR.replace("34356369", "34356368").encode(), key)


def test_a_key_in_one_line_as_the_go_checksum_database_publishes_it() -> None:
    key = NoteKey.parse("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8")
    assert (key.name, key.type) == ("sum.golang.org", KeyType.LOG)


@given(st.integers(0, MAX_SIZE), st.binary(min_size=32, max_size=32))
def test_what_the_log_signed_is_read_again(size: int, root: bytes) -> None:
    checkpoint = Checkpoint(ORIGIN, size, root)
    note = sign_checkpoint(LOG, checkpoint)
    signed = open_checkpoint(bytes(note), KEY)
    assert (signed.checkpoint, signed.cosigned, signed.note) == (checkpoint, {}, note)
    assert parse_checkpoint(checkpoint.text) == checkpoint


@given(st.integers(0, len(bytes(NOTE)) - 1), st.integers(0, 7))
def test_a_flipped_bit_is_refused(at: int, bit: int) -> None:
    data = bytearray(bytes(NOTE))
    data[at] ^= 1 << bit
    with pytest.raises(ProtocolError):
        open_checkpoint(bytes(data), KEY)


def test_a_checkpoint_of_another_log_is_told_apart() -> None:
    other = sign_checkpoint(LOG, Checkpoint("amana-test/directory", 20, bytes(32)))
    with pytest.raises(CheckpointOrigin) as refused:
        open_checkpoint(bytes(other), KEY)
    assert refused.value.slug == "checkpoint-origin"
    with pytest.raises(CheckpointInvalid) as refused_key:
        open_checkpoint(bytes(NOTE), log_key(ORIGIN, SigningKey.generate().public))
    assert refused_key.value.slug == "checkpoint-invalid"


def test_a_line_of_another_key_under_the_logs_name_is_passed_over() -> None:
    stranger = sign_checkpoint(SigningKey.generate(), CHECKPOINT).signatures[0]
    assert open_checkpoint(bytes(with_signatures(NOTE, [stranger])), KEY)
    with pytest.raises(CheckpointInvalid):
        open_checkpoint(bytes(Note(NOTE.text, (stranger,))), KEY)


def test_a_quorum_counts_operators_and_not_keys() -> None:
    for names, count in ((("one/a", "one/b"), 1), (("one/a", "two/a"), 2), ((), 0)):
        data = bytes(cosigned(*names))
        assert len(open_checkpoint(data, KEY, COSIGNERS, count).cosigned) == count
        with pytest.raises(CheckpointQuorum) as refused:
            open_checkpoint(data, KEY, COSIGNERS, count + 1)
        assert refused.value.slug == "checkpoint-quorum"


def test_the_newest_time_of_an_operator_counts() -> None:
    note = with_signatures(
        cosigned("one/a", time=100), [cosign("one/b", COSIGNING["one/b"], NOTE.text, 200)]
    )
    assert open_checkpoint(bytes(note), KEY, COSIGNERS, 1).cosigned == {"one": 200}
    later = with_signatures(note, [cosign("one/a", COSIGNING["one/a"], NOTE.text, 300)])
    assert len(later.signatures) == len(note.signatures)
    assert open_checkpoint(bytes(later), KEY, COSIGNERS, 1).cosigned == {"one": 300}


def test_a_cosignature_of_another_checkpoint_or_time_refuses_the_whole() -> None:
    line = cosign("one/a", COSIGNING["one/a"], NOTE.text, 100)
    moved = Signature(line.name, line.key_id, (101).to_bytes(8, "big") + line.signature[8:])
    other = sign_checkpoint(LOG, Checkpoint(ORIGIN, 21, bytes(32)))
    for note in (with_signatures(NOTE, [moved]), with_signatures(other, [line])):
        with pytest.raises(CheckpointInvalid):
            open_checkpoint(bytes(note), KEY, COSIGNERS, 0)
        assert open_checkpoint(bytes(note), KEY)


@pytest.mark.parametrize(
    "signature", [b"", bytes(8), bytes(71), bytes(73), b"\xff" * 72, bytes(64)]
)
def test_a_cosignature_has_one_form(signature: bytes) -> None:
    key = COSIGNERS[0].key
    with pytest.raises(CheckpointInvalid):
        key.verify(NOTE.text, signature)
    with pytest.raises(CheckpointInvalid):
        cosign("one/a", COSIGNING["one/a"], NOTE.text, MAX_TIME + 1)
    with pytest.raises(CheckpointInvalid):
        cosign("one/a", COSIGNING["one/a"], NOTE.text, -1)


def test_a_cosigners_signature_is_none_of_a_log() -> None:
    as_log = log_key("one/a", COSIGNING["one/a"].public)
    line = cosign("one/a", COSIGNING["one/a"], NOTE.text, 100)
    assert as_log.id != line.key_id
    with pytest.raises(CheckpointInvalid):
        as_log.verify(NOTE.text, line.signature[8:])
    # A receipt or another signed document of the same key is none either.
    document = LOG.sign("amana-receipt-v1", NOTE.text.encode())
    with pytest.raises(CheckpointInvalid):
        open_checkpoint(f"{NOTE.text}\n— {ORIGIN} {b64(KEY.id)[:-2]}{document}\n".encode(), KEY)


TEXT, LINE = NOTE.text, NOTE.signatures[0].line


@pytest.mark.parametrize(
    "data",
    [
        "",
        "\n\n",
        TEXT,
        f"{TEXT}\n",
        f"\n\n{LINE}",
        f"{TEXT}{LINE}",
        f"{TEXT}\n{LINE[:-1]}",
        f"{TEXT}\n{LINE}\n",
        f"{TEXT}\n{LINE} ",
        f"{TEXT}\r\n\r\n{LINE}",
        f"{TEXT}\n{LINE.replace('— ', '- ')}",
        f"{TEXT}\n{LINE.replace('— ', '—')}",
        f"{TEXT}\n{LINE.replace('— ', '—  ')}",
        f"{TEXT}\n{LINE.replace('=', '')}",
        f"{TEXT}\n— {ORIGIN} AAAA\n",
        f"{TEXT}\n— {ORIGIN}+ {b64(bytes(68))}\n",
        f"{TEXT}\n— a\u2003b {b64(bytes(68))}\n",
        f"{TEXT}\n— {'n' * 201} {b64(bytes(68))}\n",
        f"{TEXT}\n{LINE * (MAX_SIGNATURES + 1)}",
        f"{TEXT}\x00\n{LINE}",
        f"{TEXT}\t\n{LINE}",
        f"{TEXT}extension\n\n{LINE}",
        f"{TEXT}\n\n{LINE}",
        f"\n{TEXT}\n{LINE}",
        f"{ORIGIN}\n20\n\n{LINE}",
        f"{ORIGIN}\n020\n{b64(bytes(32))}\n\n{LINE}",
        f"{ORIGIN}\n-1\n{b64(bytes(32))}\n\n{LINE}",
        f"{ORIGIN}\n٢٠\n{b64(bytes(32))}\n\n{LINE}",
        f"{ORIGIN}\n{MAX_SIZE + 1}\n{b64(bytes(32))}\n\n{LINE}",
        f"{ORIGIN}\n20\n{b64(bytes(31))}\n\n{LINE}",
        f"{ORIGIN} \n20\n{b64(bytes(32))}\n\n{LINE}",
    ],
)
def test_what_is_no_checkpoint_is_refused_as_such(data: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        open_checkpoint(data.encode(), KEY)
    assert refused.value.slug in {"checkpoint-invalid", "checkpoint-origin"}


def test_other_bytes_and_large_notes_are_refused() -> None:
    with pytest.raises(CheckpointInvalid):
        parse_note(b"\xff\n\n" + LINE.encode())
    with pytest.raises(CheckpointInvalid):
        parse_note(b"a" * LIMIT_BYTES + b"\n\n" + LINE.encode())
    many = b"".join(f"— key{n} {b64(bytes(3400))}\n".encode() for n in range(16))
    assert len(parse_note(b"text\n\n" + many).signatures) == 16


@given(st.binary(max_size=300))
def test_nothing_but_a_refusal_comes_of_garbage(data: bytes) -> None:
    for parse in (parse_note, parse_signatures, lambda given: open_checkpoint(given, KEY)):
        with suppress(CheckpointInvalid):
            parse(data)


@given(st.text(max_size=200))
def test_a_text_is_a_checkpoint_in_one_spelling(text: str) -> None:
    with suppress(CheckpointInvalid):
        assert parse_checkpoint(text).text == text


def test_signature_lines_alone_as_a_cosigner_answers() -> None:
    line = cosign("one/a", COSIGNING["one/a"], NOTE.text, 100)
    assert parse_signatures(line.line.encode()) == (line,)
    for wrong in (b"", b"\n", line.line.encode()[:-1], b"x\n\n" + line.line.encode()):
        with pytest.raises(CheckpointInvalid):
            parse_signatures(wrong)


@given(st.sampled_from([KEY, *(one.key for one in COSIGNERS)]), st.data())
def test_a_key_in_one_line_is_read_again_and_nothing_else(
    key: NoteKey, data: st.DataObject
) -> None:
    assert NoteKey.parse(key.vkey) == key
    at = data.draw(st.integers(0, len(key.vkey) - 1))
    letter = data.draw(st.characters())
    changed = key.vkey[:at] + letter + key.vkey[at + 1 :]
    if changed != key.vkey:
        with pytest.raises(ProtocolError):
            NoteKey.parse(changed)


@pytest.mark.parametrize(
    "make",
    [
        lambda: NoteKey.parse(None),
        lambda: NoteKey.parse(""),
        lambda: NoteKey.parse("a+b"),
        lambda: NoteKey.parse("a+00000000+" + b64(bytes(33))),
        lambda: NoteKey.parse("a" * 400),
        lambda: log_key("a b", LOG.public),
        lambda: log_key("", LOG.public),
        lambda: log_key("a", "AA=="),
        lambda: sign_checkpoint(LOG, Checkpoint("a\nb", 0, bytes(32))),
    ],
)
def test_names_and_keys_have_a_form(make: Callable[[], object]) -> None:
    with pytest.raises(ProtocolError):
        make()
