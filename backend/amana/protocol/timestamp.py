# SPDX-License-Identifier: AGPL-3.0-or-later
"""Time stamps over checkpoints (RFC 3161, docs/protocol.md §10.10): asked for, read, and verified to pinned roots.

A stamp is the authority's whole answer, so that `openssl ts -verify` takes it as it is. What it proves does not
depend on whether the chain is valid today, only on whether it was at the time that the stamp names.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from amana.protocol.checkpoint import CheckpointInvalid, Note, NoteKey
from amana.protocol.encoding import sha256
from amana.protocol.errors import ProtocolError

LIMIT_BYTES: Final = 64 * 1024
CHAIN_LIMIT_BYTES: Final = 64 * 1024
MAX_CERTIFICATES: Final = 16
MAX_CHAIN: Final = 8
SHA256_OID: Final = "2.16.840.1.101.3.4.2.1"
_SEQUENCE, _SET, _INTEGER, _OID, _FIRST = 0x30, 0x31, 0x02, 0x06, 0xA0
_NAME_LIMIT: Final = 100


class TimestampInvalid(ProtocolError):
    """A time stamp is not in its form, or its signature fails."""

    slug = "timestamp-invalid"
    title = "The time stamp is not in its form, or not signed by its authority."


def _refused() -> TimestampInvalid:
    return TimestampInvalid("timestamp-refused", "The authority refused to stamp.")


def _other_hash() -> TimestampInvalid:
    return TimestampInvalid("timestamp-other-hash", "The time stamp is of something else.")


def _other_nonce() -> TimestampInvalid:
    return TimestampInvalid(
        "timestamp-other-nonce",
        "The time stamp answers another request than the one that was made.",
    )


def _expired() -> TimestampInvalid:
    return TimestampInvalid(
        "timestamp-expired",
        "A certificate of the authority was not valid at the time that the stamp names.",
    )


def _untrusted() -> TimestampInvalid:
    return TimestampInvalid(
        "timestamp-untrusted", "The time stamp is of an authority that nobody vouched for."
    )


def _not_authority() -> TimestampInvalid:
    return TimestampInvalid(
        "timestamp-not-authority", "Whoever made the time stamp has no certificate for that."
    )


@dataclass(frozen=True)
class Request:
    """What is sent to an authority: DER of at most a few hundred bytes, and the nonce that its answer must have."""

    content: bytes
    nonce: int


@dataclass(frozen=True)
class Stamp:
    """A verified time stamp: what it is of existed at `at` at the latest.

    `chain` has the authority's certificate first and the root that was trusted last.
    """

    at: datetime
    authority: str
    chain: tuple[x509.Certificate, ...]

    @property
    def chain_pem(self) -> bytes:
        """The chain as `openssl` reads it."""
        return b"".join(one.public_bytes(Encoding.PEM) for one in self.chain)


def stamped_bytes(note: Note, log: NoteKey) -> bytes:
    """Return what is stamped of a checkpoint: its text and the log's own signature, without any cosignature.

    So everybody makes the same bytes out of a checkpoint of this size, whoever cosigned it by then. Raises
    CheckpointInvalid where the log did not sign it with this key.
    """
    own = tuple(one for one in note.signatures if (one.name, one.key_id) == (log.name, log.id))
    if len(own) != 1:
        raise CheckpointInvalid
    return bytes(Note(note.text, own))


def make_request(stamped: bytes) -> Request:
    """Ask for a stamp of SHA-256 of some bytes, with a nonce and the authority's certificates in the answer."""
    request = TimestampRequestBuilder(stamped, HashAlgorithm.SHA256, nonce=True, cert_req=True)
    made = request.build()
    if made.nonce is None:
        raise TimestampInvalid
    return Request(made.as_bytes(), made.nonce)


def read_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Read certificates in PEM, 1 to 16 of them, at most 64 KiB."""
    if len(pem) > CHAIN_LIMIT_BYTES:
        raise _bad_certificates()
    try:
        found = tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise _bad_certificates() from None
    if not 0 < len(found) <= MAX_CERTIFICATES:
        raise _bad_certificates()
    return found


def read_roots(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Read the certificates of an authority that somebody trusts; at least one must be a root, which signs itself."""
    found = read_certificates(pem)
    if not any(map(is_root, found)):
        raise _bad_certificates()
    return found


def read_chain(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Read a chain as it is kept beside a stamp: each certificate issued by the next, and the last one a root."""
    found = read_certificates(pem)
    if not is_root(found[-1]) or not all(map(_issued, found, found[1:])):
        raise _bad_certificates()
    if b"".join(one.public_bytes(Encoding.PEM) for one in found) != pem:
        raise _bad_certificates()
    return found


def _bad_certificates() -> TimestampInvalid:
    return TimestampInvalid(
        "timestamp-certificates",
        "These are no certificates of an authority, or no root is among them.",
    )


def is_root(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate signs itself, which is what `openssl ts -verify` takes as an anchor."""
    return _issued(certificate, certificate)


def verify_stamp(
    response: bytes,
    stamped: bytes,
    trusted: Sequence[x509.Certificate],
    more: Sequence[x509.Certificate] = (),
    *,
    nonce: int | None = None,
) -> Stamp:
    """Verify that an authority under one of the `trusted` roots stamped these bytes.

    `more` are certificates that may stand between; nothing is believed of them. All of the chain must have
    been valid at the time of the stamp. Revocation is not asked about. Raises TimestampInvalid.
    """
    try:
        return _verified(_parse(response), stamped, trusted, more, nonce)
    except ProtocolError:
        raise
    except Exception:
        # Two libraries read what a stranger made, and each has errors of its own for what it does not like.
        raise TimestampInvalid from None
    except BaseException as error:
        if _is_panic(error):
            raise TimestampInvalid from None
        raise


def _verified(
    answer: TimeStampResponse,
    stamped: bytes,
    trusted: Sequence[x509.Certificate],
    more: Sequence[x509.Certificate],
    nonce: int | None,
) -> Stamp:
    told = answer.tst_info
    imprint, digest = told.message_imprint, sha256(stamped)
    if (imprint.hash_algorithm.dotted_string, imprint.message) != (SHA256_OID, digest):
        raise _other_hash()
    if nonce is not None and told.nonce != nonce:
        raise _other_nonce()
    signers = list(answer.signed_data.signer_infos)
    embedded = [x509.load_der_x509_certificate(one) for one in answer.signed_data.certificates]
    if len(signers) != 1 or len(embedded) > MAX_CERTIFICATES:
        raise TimestampInvalid
    known = [*embedded, *more, *trusted]
    signer = (signers[0].issuer, signers[0].serial_number)
    leaf = next((one for one in known if (one.issuer, one.serial_number) == signer), None)
    if leaf is None:
        raise TimestampInvalid
    roots = [one for one in trusted if is_root(one)]
    between = [one for one in known if one.subject != one.issuer]
    chain = next(_chains((leaf,), between, roots), None)
    if chain is None:
        raise _untrusted()
    _check_purpose(leaf)
    made_at = told.gen_time
    if not all(one.not_valid_before_utc <= made_at <= one.not_valid_after_utc for one in chain):
        raise _expired()
    # The library trusts whatever it is given, so it is given this one chain and nothing else.
    verifier = VerifierBuilder(
        tsa_certificate=leaf, intermediates=list(chain[1:-1]), roots=[chain[-1]], nonce=nonce
    ).build()
    try:
        verifier.verify(answer, digest)
    except VerificationError:
        raise TimestampInvalid from None
    return Stamp(_latest(made_at, told.accuracy), _name(leaf), chain)


def _chains(
    chain: tuple[x509.Certificate, ...],
    between: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
) -> Iterator[tuple[x509.Certificate, ...]]:
    """Give the ways from a certificate to a root; what signs itself and is no root leads nowhere."""
    if chain[-1] in roots:
        yield chain
        return
    if len(chain) < MAX_CHAIN:
        for one in (*roots, *between):
            if one not in chain and _issued(chain[-1], one):
                yield from _chains((*chain, one), between, roots)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _check_purpose(leaf: x509.Certificate) -> None:
    """An authority's certificate is for time stamps and nothing else, and says so critically (RFC 3161 §2.3)."""
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        raise _not_authority() from None
    if not usage.critical or list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise _not_authority()


def _latest(made_at: datetime, accuracy: Any) -> datetime:
    """Return the whole second by which the time was over, with what the authority says of its clock."""
    at = made_at.astimezone(UTC)
    if accuracy is not None:
        at += timedelta(
            seconds=min(accuracy.seconds or 0, 86400 * 365),
            milliseconds=accuracy.millis or 0,
            microseconds=accuracy.micros or 0,
        )
    return at if not at.microsecond else at.replace(microsecond=0) + timedelta(seconds=1)


def _name(certificate: x509.Certificate) -> str:
    named = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    text = str(named[0].value) if named else certificate.subject.rfc4514_string()
    return "".join(letter for letter in text if letter.isprintable())[:_NAME_LIMIT] or "unnamed"


# Reading


def _parse(response: bytes) -> TimeStampResponse:
    if len(response) > LIMIT_BYTES:
        raise TimestampInvalid
    answer = decode_timestamp_response(_in_order(response))
    if answer.status != 0:
        raise _refused()
    if not answer.time_stamp_token():
        raise TimestampInvalid
    return answer


def _is_panic(error: BaseException) -> bool:
    """Tell whether the library's Rust part gave up over a malformed token; its exception is no Exception."""
    return type(error).__name__ == "PanicException"


def _in_order(response: bytes) -> bytes:
    """Put the certificates of a token into the order of DER, which the library demands and authorities do not keep.

    Only their order changes, so every length stays, and no signature covers it (RFC 5652 §5.1).
    """
    place = _after(response, _inside(response, 0, _SEQUENCE), _SEQUENCE)
    if place == len(response):
        # A refusal holds no token.
        return response
    place = _inside(response, place, _SEQUENCE)
    place = _inside(response, _inside(response, _after(response, place, _OID), _FIRST), _SEQUENCE)
    for tag in (_INTEGER, _SET, _SEQUENCE):
        place = _after(response, place, tag)
    if response[place : place + 1] != bytes([_FIRST]):
        return response
    start, end = _inside(response, place, _FIRST), _after(response, place, _FIRST)
    parts: list[bytes] = []
    at = start
    while at < end:
        after = _after(response, at, None)
        parts.append(response[at:after])
        if after > end or len(parts) > MAX_CERTIFICATES:
            raise TimestampInvalid
        at = after
    return response[:start] + b"".join(sorted(parts)) + response[end:]


def _inside(data: bytes, at: int, tag: int | None) -> int:
    """Return where the content of an element begins."""
    return _element(data, at, tag)[0]


def _after(data: bytes, at: int, tag: int | None) -> int:
    """Return where an element ends."""
    return _element(data, at, tag)[1]


def _element(data: bytes, at: int, tag: int | None) -> tuple[int, int]:
    """Return begin and end of the content of an element with a definite length (X.690 §8.1.3)."""
    head = data[at : at + 2]
    if len(head) < 2 or (tag is not None and head[0] != tag):
        raise TimestampInvalid
    begin, length = at + 2, head[1]
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 3:
            raise TimestampInvalid
        length = int.from_bytes(data[begin : begin + count], "big")
        begin += count
    if begin + length > len(data):
        raise TimestampInvalid
    return begin, begin + length
