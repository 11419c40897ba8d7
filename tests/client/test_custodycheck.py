"""A custody holds from the root alone; whatever value of it is changed, a check fails and names where."""

import base64
import copy
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tuf.api.metadata import Metadata, Root

from amana.client.custody import CustodyReader
from amana.client.custodycheck import check_custody
from amana.client.keyfile import PersonKeys
from amana.client.officer import tuf_signer
from amana.client.transport import Patience, Transport
from amana.client.verify import Check
from amana.ops.sequencer import sequence
from amana.protocol.checkpoint import KeyType, NoteKey, cosign, parse_checkpoint, with_signatures
from amana.protocol.custody import MAX_EVENTS, sign_custody
from amana.protocol.encoding import canonical
from amana.protocol.receipt import leaf
from amana.protocol.signing import SigningKey
from amana.protocol.tlogproof import TlogProof
from tests.support.exports import SCOPES, Leaving
from tests.support.organisation import organisation_in
from tests.support.statements import Witness

CHECKS = ["root", "form", "parts", "directory", "maker", "custody", "shown", "log", "order"]
Document = dict[str, Any]


@pytest.fixture(scope="module")
def leaving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leaving]:
    with organisation_in(tmp_path_factory.mktemp("custody")) as organisation:
        made = Leaving.accepted(organisation)
        witness = Witness(organisation, made.made)
        assert witness.consent({**SCOPES, "opcw": "allow"}).status_code == 200
        made.complete(made.approved())
        sequence(organisation.services)
        yield made


def fetch(leaving: Leaving, keys: PersonKeys) -> Document:
    """Return what the command prints, read again."""
    organisation = leaving.organisation
    organisation.clock.follow()
    with organisation.served() as url, Transport(url, silence_seconds=60) as transport:
        reader = CustodyReader(transport, organisation.root, keys, patience=Patience(attempts=2))
        found = reader.custody(leaving.case)
    document: Document = json.loads(json.dumps(found.document.document))
    return document


@pytest.fixture(scope="module")
def auditor(leaving: Leaving) -> PersonKeys:
    return leaving.organisation.of_role("auditor")[0]


@pytest.fixture(scope="module")
def document(leaving: Leaving, auditor: PersonKeys) -> Document:
    return fetch(leaving, auditor)


def checked(document: object, root: bytes) -> list[Check]:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    checks = check_custody(content, root)
    assert [one.name for one in checks] == CHECKS
    return checks


def faults(document: object, root: bytes) -> dict[str, str]:
    """Return what does not hold."""
    return {one.name: one.detail for one in checked(document, root) if one.ok is False}


def unchecked(document: object, root: bytes) -> dict[str, str]:
    """Return what was not checked."""
    return {one.name: one.detail for one in checked(document, root) if one.ok is None}


def test_readers_and_auditors_fetch_what_a_court_checks_with_the_root_alone(
    leaving: Leaving, document: Document, auditor: PersonKeys
) -> None:
    root = leaving.organisation.root
    for mine in (document, fetch(leaving, leaving.reader.keys)):
        assert faults(mine, root) == {}
        assert [one["what"] for one in mine["events"]] == [
            "testimony-received", "claim", "open", "decide", "witness-consent", "export-request",
            "export-approve", "export-complete",
        ]  # fmt: skip
    assert document["maker"] == auditor.id
    # In whatever spelling of JSON: it is copied through many hands and programs.
    assert faults(json.dumps(document, indent=2, ensure_ascii=False).encode(), root) == {}


def test_what_is_signed_is_what_the_protocol_says(document: Document, auditor: PersonKeys) -> None:
    fields = {"v", "deployment", "case", "maker", "directory", "made_on", "parts"}
    message = rfc8785.dumps({name: document[name] for name in fields})
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(auditor.signing.public))
    key.verify(base64.b64decode(document["sig"]), b"amana-custody-v1\0" + message)
    entries = {f"events/{n + 1}": one for n, one in enumerate(document["events"])}
    hashes = {name: hashlib.sha256(rfc8785.dumps(one)) for name, one in entries.items()}
    hashes |= {
        f"files/{name}": hashlib.sha256(one.encode()) for name, one in document["files"].items()
    }
    assert document["parts"] == {name: one.hexdigest() for name, one in hashes.items()}
    for one in document["events"]:
        commitment = hmac.new(bytes.fromhex(one["key"]), rfc8785.dumps(one["event"]), "sha256")
        assert commitment.hexdigest() == one["leaf"]


# Every single value


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of every value that holds no others, and of every name of a member."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield from places(below, (*path, name))
    elif isinstance(value, list):
        for n, below in enumerate(value):
            yield from places(below, (*path, n))
    else:
        yield path


def flipped(value: Any, turn: int) -> Any:
    """Return another value of the same kind, one character or one number further."""
    if isinstance(value, bool) or value is None:
        return 0
    if isinstance(value, int):
        return value + 1
    if not value:
        return "a"
    place = (turn * 7919) % len(value)
    return value[:place] + ("b" if value[place] != "b" else "c") + value[place + 1 :]


def changed(document: Document, path: Sequence[Any], value: Any) -> Document:
    found = copy.deepcopy(document)
    parent: Any = found
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = value
    return found


def named(path: Sequence[Any]) -> str:
    """Return what a check must call the value at a path."""
    if path[0] == "events":
        return f"events/{path[1] + 1}"
    if path[0] == "files":
        return f"files/{path[1]}"
    return str(path[1] if path[0] == "parts" else path[0])


def test_a_changed_value_anywhere_is_named(leaving: Leaving, document: Document) -> None:
    root, seen = leaving.organisation.root, 0
    for turn, path in enumerate(places(document)):
        value: Any = document
        for step in path:
            value = value[step]
        # A long text is hit in several places, its first and its last character among them.
        others = {flipped(value, turn)}
        if isinstance(value, str) and len(value) > 100:
            others |= {flipped(value, 0), value[:-1] + ("x" if value[-1] != "x" else "y")}
        for other in others:
            found = faults(changed(document, path, other), root)
            assert named(path) in " ".join(found.values()), (path, found)
            seen += 1
    assert seen > 200


def test_a_member_that_is_missing_or_too_many_is_named(
    leaving: Leaving, document: Document
) -> None:
    root = leaving.organisation.root
    for name in document:
        without = {key: value for key, value in document.items() if key != name}
        assert name in faults(without, root)["form"]
    for name in document["events"][1]:
        less = copy.deepcopy(document)
        del less["events"][1][name]
        assert "events/2" in faults(less, root)["form"]
    for name in document["files"]:
        less = copy.deepcopy(document)
        del less["files"][name]
        assert f"files/{name}" in faults(less, root)["parts"]
    for number in range(1, len(document["events"])):
        less = copy.deepcopy(document)
        del less["events"][number]
        assert f"events/{len(document['events'])}" in faults(less, root)["parts"]
    assert "more" in faults({**document, "more": 1}, root)["form"]


# Somebody lies with a true key


def signed_anew(document: Document, keys: PersonKeys, **changes: Any) -> Document:
    fields = {name: document[name] for name in document if name not in {"v", "parts", "sig"}}
    made = sign_custody(keys.signing, **{**fields, "maker": keys.id, **changes})
    return dict(made.document)


def lies(document: Document, keys: PersonKeys, change: Callable[[list[Any]], Any]) -> Document:
    """Return a custody whose events were changed by whoever signs it."""
    events = copy.deepcopy(document["events"])
    events = change(events) or events
    return signed_anew(document, keys, events=events)


def test_whoever_fetched_it_cannot_change_what_happened(
    leaving: Leaving, document: Document, auditor: PersonKeys
) -> None:
    root = leaving.organisation.root
    assert faults(lies(document, auditor, lambda _events: None), root) == {}

    def lie(change: Callable[[list[Any]], Any]) -> dict[str, str]:
        return faults(lies(document, auditor, change), root)

    words = {
        "what": "note", "who": "b" * 32, "when": "2020-01-01 00:00:00", "authority": "lead",
        "signature": "none", "place": 999, "leaf": "0" * 64,
    }  # fmt: skip
    for name, value in words.items():
        found = lie(lambda events, name=name, value=value: events[2].update({name: value}))
        assert found["shown"].startswith("events/3"), name
    other_time = "2020-01-01T00:00:00Z"

    def with_a_leaf_that_fits(events: list[Any]) -> None:
        one = events[2]
        one["event"]["action"]["made_at"] = other_time
        one["when"] = "2020-01-01 00:00:00"
        one["leaf"] = leaf(canonical(one["event"]), bytes.fromhex(one["key"])).hex()

    found = lie(with_a_leaf_that_fits)
    assert found["custody"].startswith("events/3")
    assert found["log"].startswith("events/3")
    assert "act stands there twice" in lie(lambda events: [*events, events[-1]])["custody"]
    assert "events/2" in lie(lambda events: [events[1], *events])["order"]
    swapped = lie(lambda events: [*events[:2], events[3], events[2], *events[4:]])
    assert swapped == {"order": "events/4: not in the order of the log"}
    assert "arrival" in lie(lambda events: events[1:])["order"]
    missing = lie(lambda events: [one for one in events if one["what"] != "export-request"])
    assert "export-approve without export-request" in missing["order"]
    for left_out, needing in (("claim", "open"), ("decide", "export-request")):
        missing = lie(lambda events, left=left_out: [one for one in events if one["what"] != left])
        assert f"{needing} without {left_out} before it: an event is missing" in missing["order"]


def test_an_order_is_not_proven_where_proofs_are_missing(
    leaving: Leaving, document: Document, auditor: PersonKeys
) -> None:
    root = leaving.organisation.root
    waiting = {"tlog_proof": None, "proof": "waiting", "place": None}
    one = lies(document, auditor, lambda events: events[4].update(waiting))
    assert faults(one, root) == {
        "log": "events/5: no proof that the log holds it (waiting); fetch the custody again"
    }
    none = lies(document, auditor, lambda events: [{**each, **waiting} for each in events])
    for lacking in (one, none):
        assert unchecked(lacking, root) == {
            "order": "Not checked, because not every event is proven to stand in the log."
        }


def test_a_proof_of_another_tree_place_or_log_does_not_hold(
    leaving: Leaving, document: Document, auditor: PersonKeys
) -> None:
    proof = TlogProof.parse(document["events"][3]["tlog_proof"].encode())
    checkpoint = parse_checkpoint(proof.checkpoint.text)
    [signature] = proof.checkpoint.signatures
    texts = [
        replace(checkpoint, size=checkpoint.size + 1).text,
        replace(checkpoint, root=bytes(32)).text,
        replace(checkpoint, origin="elsewhere/custody").text,
    ]
    others = [replace(proof, checkpoint=replace(proof.checkpoint, text=text)) for text in texts]
    others += [
        replace(proof, hashes=(bytes(32), *proof.hashes[1:])),
        replace(proof, hashes=proof.hashes[:-1]),
        replace(
            proof,
            checkpoint=replace(
                proof.checkpoint, signatures=(replace(signature, signature=bytes(64)),)
            ),
        ),
        TlogProof.parse(document["events"][4]["tlog_proof"].encode()),
    ]
    for number, other in enumerate(others):
        text = bytes(other).decode()
        lie = lies(document, auditor, lambda events, text=text: events[3].update(tlog_proof=text))
        assert faults(lie, leaving.organisation.root)["log"].startswith("events/4"), number


def test_a_quorum_that_the_root_asks_for_is_asked_of_every_proof(
    leaving: Leaving, document: Document, auditor: PersonKeys
) -> None:
    cosigner = SigningKey.generate()
    key = NoteKey("cosigner.example/one", KeyType.COSIGNER, cosigner.public)
    root = Metadata[Root].from_bytes(leaving.organisation.root)
    root.signed.unrecognized_fields["x-amana"] |= {
        "cosigners": [{"operator": "one", "key": key.vkey}],
        "quorum": 1,
        "freshness_hours": 24,
    }
    root.signatures.clear()
    for officer in leaving.organisation.of_role("officer"):
        root.sign(tuf_signer(officer.signing), append=True)
    asking = root.to_bytes()
    assert set(faults(document, asking)) == {"log"}
    assert "Too few" in faults(document, asking)["log"]

    def cosigned(events: list[Any]) -> None:
        for one in events:
            proof = TlogProof.parse(one["tlog_proof"].encode())
            more = cosign(key.name, cosigner, proof.checkpoint.text, 1_800_000_000)
            note = with_signatures(proof.checkpoint, [more])
            one["tlog_proof"] = bytes(replace(proof, checkpoint=note)).decode()

    assert faults(lies(document, auditor, cosigned), asking) == {}


def test_only_readers_and_auditors_vouch_for_a_custody(
    leaving: Leaving, document: Document, auditor: PersonKeys
) -> None:
    root = leaving.organisation.root
    stranger = PersonKeys.generate("auditor")
    for keys in (stranger, leaving.administrator.keys, leaving.partner):
        assert set(faults(signed_anew(document, keys), root)) == {"maker"}
    assert "maker" in faults(signed_anew(document, stranger, maker=auditor.id), root)
    elsewhere = signed_anew(document, auditor, deployment="elsewhere")
    assert faults(elsewhere, root)["maker"].startswith("deployment")
    other = signed_anew(document, auditor, case="b" * 32)
    assert "another case" in faults(other, root)["custody"]


# What is no custody at all


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"null", b"{}", b"[" * 100_000, b'{"v":1,"v":1}', b"\x00", b"\xff", b'{"v":1e999}',
        b'{"events":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)  # fmt: skip
def test_something_else_is_no_custody(leaving: Leaving, content: bytes) -> None:
    root = leaving.organisation.root
    assert set(faults(content, root)) == {"form"}
    found = unchecked(content, root)
    assert set(found) == set(CHECKS[2:])
    assert all(one.startswith("Not checked") for one in found.values())


def test_every_size_has_its_limit(leaving: Leaving, document: Document) -> None:
    root = leaving.organisation.root
    event = document["events"][0]
    too_much: list[Document] = [
        {**document, "events": [event] * (MAX_EVENTS + 1)},
        {**document, "events": []},
        {**document, "events": [{**event, "tlog_proof": "a" * 300_000}]},
        {**document, "events": [{**event, "event": {"a": "b" * 300_000}}]},
        {**document, "files": {"1.root.json": "a" * 600_000}},
        {**document, "files": {f"{n}.root.json": "" for n in range(1, 5000)}},
        {**document, "files": {"../1.root.json": ""}},
        {**document, "parts": {f"events/{n}": "0" * 64 for n in range(1, 9999)}},
        {**document, "deployment": "a" * 65},
    ]
    for one in too_much:
        assert "form" in faults(one, root)
    assert "larger than" in faults(b" " * (64 * 2**20 + 1), root)["form"]


def test_a_root_that_its_officers_did_not_sign_proves_nothing(document: Document) -> None:
    assert set(faults(document, b"{}")) == {"root"}
    assert set(unchecked(document, b"{}")) == set(CHECKS) - {"root", "form", "parts"}
