"""Objects that are not sealed in the one allowed form, each with the slug of its refusal."""

from typing import NamedTuple

from amana.protocol import age
from amana.protocol.age import Identity, Passphrase, Recipient, Stanza
from amana.protocol.sealing import Kind, frame, framed_size, seal
from tests.support.age_testkit import X25519Identity, armor

TEXT = b"synthetic: a text for tests"
KEY = b"sixteen byte key"


class Fault(NamedTuple):
    kind: Kind
    slug: str
    data: bytes


def sealed_faults(recipient: Recipient) -> dict[str, Fault]:
    """Make one object for each way in which an object is refused unopened."""
    classical = X25519Identity()
    good = seal(TEXT, recipient, Kind.GRANT)
    framed = frame(TEXT, 256)

    def sealed_to(*stanzas: Stanza, data: bytes = framed) -> bytes:
        return age.write_header(KEY, stanzas) + age.seal_payload(KEY, data)

    hybrid, second = recipient.wrap(KEY), Identity.generate().recipient.wrap(KEY)
    longer = Stanza(hybrid.kind, (*hybrid.args, "x"), hybrid.body)
    return {
        "nothing": Fault(Kind.GRANT, "sealed-plaintext", b""),
        "plaintext": Fault(Kind.GRANT, "sealed-plaintext", TEXT),
        "plaintext of the right length": Fault(
            Kind.GRANT, "sealed-plaintext", TEXT.ljust(len(good), b" ")
        ),
        "a later version of age": Fault(Kind.GRANT, "sealed-plaintext", good.replace(b"v1", b"v2")),
        "armor": Fault(Kind.GRANT, "sealed-armor", armor(good)),
        "a classical key": Fault(Kind.GRANT, "sealed-stanza", sealed_to(classical.wrap(KEY))),
        "a passphrase": Fault(
            Kind.GRANT, "sealed-stanza", sealed_to(Passphrase("p", work_factor=2).wrap(KEY))
        ),
        "two hybrid keys": Fault(Kind.GRANT, "sealed-stanzas", sealed_to(hybrid, second)),
        "a hybrid and a classical key": Fault(
            Kind.GRANT, "sealed-stanzas", sealed_to(hybrid, classical.wrap(KEY))
        ),
        "a classical and a hybrid key": Fault(
            Kind.GRANT, "sealed-stanzas", sealed_to(classical.wrap(KEY), hybrid)
        ),
        "grease": Fault(
            Kind.GRANT, "sealed-stanzas", sealed_to(hybrid, Stanza("x-grease", (), b"grease"))
        ),
        "a further argument": Fault(Kind.GRANT, "sealed-header", sealed_to(longer)),
        "lines that end in CRLF": Fault(
            Kind.GRANT, "sealed-header", good.replace(b"\n---", b"\r\n---")
        ),
        "a header that is cut": Fault(Kind.GRANT, "sealed-header", good[:1000]),
        "a header without its payload": Fault(Kind.GRANT, "sealed-size", good[:1627]),
        "unpadded": Fault(Kind.GRANT, "sealed-size", sealed_to(hybrid, data=TEXT)),
        "a file that is not padded": Fault(
            Kind.FILE, "sealed-size", sealed_to(hybrid, data=bytes(65537))
        ),
        "truncated": Fault(Kind.GRANT, "sealed-size", good[:-1]),
        "overlong": Fault(Kind.GRANT, "sealed-size", good + b"\0"),
        "a bucket of another kind": Fault(
            Kind.GRANT, "sealed-bucket", seal(TEXT, recipient, Kind.REPLY)
        ),
        "a manifest as an account": Fault(
            Kind.ACCOUNT, "sealed-bucket", seal(TEXT, recipient, Kind.MANIFEST)
        ),
        "a grant as a file": Fault(Kind.FILE, "sealed-bucket", good),
    }


def unopenable(recipient: Recipient) -> dict[str, Fault]:
    """Make objects that have the allowed form, and show their fault to whoever opens them."""
    good = seal(TEXT, recipient, Kind.GRANT)
    hybrid = recipient.wrap(KEY)

    def framed_as(framed: bytes) -> bytes:
        return age.write_header(KEY, [hybrid]) + age.seal_payload(KEY, framed)

    size = framed_size(Kind.GRANT, 0)
    forged = age.write_header(b"another file key", [hybrid]) + age.seal_payload(KEY, bytes(size))
    return {
        "another key": Fault(
            Kind.GRANT, "no-match", seal(TEXT, Identity.generate().recipient, Kind.GRANT)
        ),
        "a header of another file key": Fault(Kind.GRANT, "header-altered", forged),
        "a payload that was altered": Fault(
            Kind.GRANT, "payload-altered", good[:-1] + bytes([good[-1] ^ 1])
        ),
        "padding that is not zero": Fault(
            Kind.GRANT, "bad-frame", framed_as(frame(TEXT, size)[:-1] + b"\1")
        ),
        "a length beyond the end": Fault(
            Kind.GRANT, "bad-frame", framed_as((size - 7).to_bytes(8, "big") + bytes(size - 8))
        ),
        "an enormous length": Fault(Kind.GRANT, "bad-frame", framed_as(b"\xff" * size)),
    }
