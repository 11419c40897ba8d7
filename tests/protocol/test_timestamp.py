"""Time stamps of a real OpenSSL authority verify to a pinned root; of another hash, request, chain or day they do not."""

import base64
import json
import subprocess
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from amana.protocol.checkpoint import (
    Checkpoint,
    CheckpointInvalid,
    cosign,
    log_key,
    sign_checkpoint,
    with_signatures,
)
from amana.protocol.errors import ProtocolError
from amana.protocol.signing import SigningKey
from amana.protocol.timestamp import (
    CHAIN_LIMIT_BYTES,
    LIMIT_BYTES,
    Stamp,
    TimestampInvalid,
    make_request,
    read_certificates,
    read_roots,
    stamped_bytes,
    verify_stamp,
)
from tests.support.authority import Authority, now

DATA = b"amana-test/custody\n1\nAAAA\n\n"
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "timestamps.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "a")


@pytest.fixture(scope="module")
def response(authority: Authority) -> bytes:
    return authority.stamp(DATA)


def refusal(response: bytes, *trusted: x509.Certificate, data: bytes = DATA, **more: int) -> str:
    with pytest.raises(TimestampInvalid) as refused:
        verify_stamp(response, data, trusted, **more)
    return refused.value.slug


def test_a_stamp_says_when_and_under_which_chain(authority: Authority) -> None:
    before = now()
    request = make_request(DATA)
    stamp = verify_stamp(
        authority.reply(request.content), DATA, [authority.root], nonce=request.nonce
    )
    # OpenSSL says that its clock is off by a second at most.
    assert before <= stamp.at
    assert (stamp.at - now()).total_seconds() <= 1
    assert stamp.at.microsecond == 0
    assert stamp.authority == "Clock of the Tests"
    assert stamp.chain == (authority.own, authority.middle, authority.root)
    assert read_certificates(stamp.chain_pem) == stamp.chain


def test_openssl_verifies_what_we_keep_and_we_what_it_asked_for(
    authority: Authority, tmp_path: Path
) -> None:
    request = make_request(DATA)
    stamp = verify_stamp(authority.reply(request.content), DATA, [authority.root])
    (tmp_path / "x.tsr").write_bytes(authority.reply(request.content))
    (tmp_path / "x.pem").write_bytes(stamp.chain_pem)
    (tmp_path / "data").write_bytes(DATA)

    def openssl(data: str) -> str:
        done = subprocess.run(
            ["openssl", "ts", "-verify", "-data", data, "-in", "x.tsr", "-untrusted", "x.pem",
             "-CAfile", str(authority.folder / "root.pem")],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout.strip()

    assert openssl("data") == "Verification: OK"
    (tmp_path / "other").write_bytes(b"other")
    assert openssl("other") != "Verification: OK"


def test_a_stamp_of_another_hash_is_refused(authority: Authority, response: bytes) -> None:
    assert refusal(response, authority.root, data=DATA[:-1]) == "timestamp-other-hash"
    longer = authority.reply(
        subprocess.run(
            ["openssl", "ts", "-query", "-sha384"], input=DATA, capture_output=True, check=True
        ).stdout
    )
    assert refusal(longer, authority.root) == "timestamp-other-hash"


def test_a_stamp_of_another_request_is_refused(authority: Authority) -> None:
    first, second = make_request(DATA), make_request(DATA)
    given = authority.reply(first.content)
    assert refusal(given, authority.root, nonce=second.nonce) == "timestamp-other-nonce"
    without = authority.reply(authority.query(DATA, "-no_nonce"))
    assert refusal(without, authority.root, nonce=first.nonce) == "timestamp-other-nonce"
    assert verify_stamp(without, DATA, [authority.root]).authority == authority.name


def test_a_chain_that_nobody_trusts_is_refused(authority: Authority, tmp_path: Path) -> None:
    given = authority.stamp(DATA)
    other = Authority(tmp_path / "other", name="Another Clock")
    twin = Authority(tmp_path / "twin")
    assert refusal(given) == "timestamp-untrusted"
    assert refusal(given, other.root) == "timestamp-untrusted"
    # Of the same name, and another key.
    assert refusal(given, twin.root) == "timestamp-untrusted"
    # What stands between is no root, also if somebody says so.
    assert refusal(given, authority.middle) == "timestamp-untrusted"
    # A liar who brings a root of its own along.
    brought = Authority(tmp_path / "liar", name="Liar", embedded=("middle", "root"))
    assert refusal(brought.stamp(DATA), authority.root) == "timestamp-untrusted"
    with pytest.raises(TimestampInvalid) as refused:
        verify_stamp(brought.stamp(DATA), DATA, [authority.root], [brought.middle, brought.root])
    assert refused.value.slug == "timestamp-untrusted"
    # One who signs for itself.
    alone = Authority(tmp_path / "alone", self_signed=True, embedded=())
    assert refusal(alone.stamp(DATA), authority.root) == "timestamp-untrusted"
    assert verify_stamp(alone.stamp(DATA), DATA, [alone.own]).chain == (alone.own,)


def test_a_chain_that_had_expired_at_the_time_of_the_stamp_is_refused(tmp_path: Path) -> None:
    for number, options in enumerate(
        ({"own_days": (-10, -1)}, {"own_days": (1, 10)}, {"root_days": (-20, -1)})
    ):
        late = Authority(tmp_path / str(number), **options)  # type: ignore[arg-type]
        assert refusal(late.stamp(DATA), late.root) == "timestamp-expired"


def test_a_chain_that_expired_later_still_proves() -> None:
    vector = VECTORS["expired_since"]
    root = read_roots(vector["root"].encode())
    response = base64.b64decode(vector["response"])
    stamp = verify_stamp(response, vector["stamped"].encode(), root)
    assert stamp.at == datetime.fromisoformat(vector["at"])
    assert all(one.not_valid_after_utc < datetime.now(UTC) for one in stamp.chain)
    assert stamp.at <= stamp.chain[0].not_valid_after_utc


@pytest.mark.parametrize(
    "options",
    [
        {"purposes": (ExtendedKeyUsageOID.SERVER_AUTH,)},
        {"purposes": (ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.SERVER_AUTH)},
        {"is_critical": False},
    ],
)
def test_a_certificate_for_something_else_is_refused(
    tmp_path: Path, options: dict[str, object]
) -> None:
    # OpenSSL would not sign with such a certificate, so it is put in the place of a good one afterwards.
    good = Authority(tmp_path / "good")
    given = good.reply(good.query(DATA, "-no_nonce", cert=False))
    odd = good.differently(**options)
    with pytest.raises(TimestampInvalid) as refused:
        verify_stamp(given, DATA, [good.root], [odd, good.middle])
    assert refused.value.slug == "timestamp-not-authority"
    assert verify_stamp(given, DATA, [good.root], [good.own, good.middle]).chain[0] == good.own


def test_what_certified_the_authority_must_be_allowed_to(tmp_path: Path) -> None:
    odd = Authority(tmp_path / "odd", middle_is_ca=False)
    assert refusal(odd.stamp(DATA), odd.root) == "timestamp-invalid"


def test_certificates_may_come_beside_the_stamp_or_in_any_order(tmp_path: Path) -> None:
    sparse = Authority(tmp_path / "sparse", embedded=())
    given = sparse.stamp(DATA)
    assert refusal(given, sparse.root) == "timestamp-untrusted"
    assert verify_stamp(given, DATA, [sparse.root], [sparse.middle]).chain[-1] == sparse.root
    assert verify_stamp(given, DATA, [sparse.root, sparse.middle]).chain[1] == sparse.middle
    for number, order in enumerate((("middle", "root"), ("root", "middle"))):
        full = Authority(tmp_path / str(number), embedded=order)
        assert verify_stamp(full.stamp(DATA), DATA, [full.root]).chain[0] == full.own


def test_a_refusal_of_the_authority_is_one(authority: Authority) -> None:
    assert refusal(authority.reply(b"no request"), authority.root) == "timestamp-refused"


def test_a_flipped_bit_of_a_stamp_changes_nothing_that_it_says(
    authority: Authority, response: bytes
) -> None:
    said = verify_stamp(response, DATA, [authority.root])
    alike = 0
    for place in range(len(response)):
        changed = bytearray(response)
        changed[place] ^= 1 << (place % 8)
        try:
            alike += 1
            assert same(verify_stamp(bytes(changed), DATA, [authority.root]), said), place
        except TimestampInvalid:
            alike -= 1
    # What is left are words of the status and what nothing hangs on.
    assert alike < len(response) / 50


def same(one: Stamp, other: Stamp) -> bool:
    return (one.at, one.authority, one.chain) == (other.at, other.authority, other.chain)


def test_a_stamp_that_was_cut_or_is_too_long_is_refused(
    authority: Authority, response: bytes
) -> None:
    for data in (
        b"", response[:-1], response[:100], response + b"\0", b"\x30\x80" + response[2:],
        response + bytes(LIMIT_BYTES), b"<html>", b"\x30\x84" + response,
    ):  # fmt: skip
        assert refusal(data, authority.root) == "timestamp-invalid"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_nothing_but_our_own_refusal_comes_out_of_any_bytes(
    data: st.DataObject, authority: Authority, response: bytes
) -> None:
    changed = bytearray(response)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(changed) - 1))
        match data.draw(st.sampled_from(("set", "cut", "double", "insert"))):
            case "set":
                changed[place] = data.draw(st.integers(0, 255))
            case "cut":
                del changed[place : place + data.draw(st.integers(1, 40))]
            case "double":
                changed[place:place] = changed[place : place + data.draw(st.integers(1, 400))]
            case "insert":
                changed[place:place] = data.draw(st.binary(min_size=1, max_size=8))
        if not changed:
            changed = bytearray(b"0")
    judged(bytes(changed), authority)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
@example(b"\x30\x00")
@example(b"\x30\x03\x02\x01\x00")
def test_nor_out_of_bytes_that_are_no_stamp(authority: Authority, data: bytes) -> None:
    judged(data, authority)
    for read in (read_certificates, read_roots):
        with pytest.raises(ProtocolError):
            read(data)


def judged(data: bytes, authority: Authority) -> None:
    with warnings.catch_warnings(), suppress(TimestampInvalid):
        # Of certificates that are odd, the library warns before it refuses them.
        warnings.simplefilter("ignore")
        verify_stamp(data, DATA, [authority.root])


def test_certificates_have_limits(authority: Authority) -> None:
    one = (authority.folder / "root.pem").read_bytes()
    assert len(read_certificates(one * 16)) == 16
    for pem in (b"", b"x", one * 17, one + b" " * CHAIN_LIMIT_BYTES, one[:-40]):
        with pytest.raises(TimestampInvalid) as refused:
            read_certificates(pem)
        assert refused.value.slug == "timestamp-certificates"
    with pytest.raises(TimestampInvalid):
        read_roots((authority.folder / "middle.pem").read_bytes())


def test_what_is_stamped_is_the_checkpoint_as_its_log_alone_signed_it() -> None:
    key, other = SigningKey.generate(), SigningKey.generate()
    note = sign_checkpoint(key, Checkpoint("amana-test/custody", 7, bytes(32)))
    log = log_key("amana-test/custody", key.public)
    cosigned = with_signatures(note, [cosign("one.example/1", other, note.text, 1_700_000_000)])
    assert stamped_bytes(cosigned, log) == stamped_bytes(note, log) == bytes(note)
    assert bytes(note).count("\n— ".encode()) == 1
    with pytest.raises(CheckpointInvalid):
        stamped_bytes(note, log_key("amana-test/custody", other.public))


def test_the_vector_of_a_stamp_verifies() -> None:
    for name in ("expired_since", "valid_for_long"):
        vector = VECTORS[name]
        stamp = verify_stamp(
            base64.b64decode(vector["response"]),
            vector["stamped"].encode(),
            read_roots(vector["root"].encode()),
        )
        assert stamp.chain_pem.decode() == vector["chain"]
        assert (stamp.at.isoformat(), stamp.authority) == (vector["at"], vector["authority"])
