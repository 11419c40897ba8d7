"""A testimony with a vault, its reader, and the custodians, speaking HTTP by hand or through the real programs."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from amana.client.custodian import Custodian
from amana.client.keyfile import PersonKeys, intake_key_fields
from amana.client.releases import ReleaseReader
from amana.client.transport import Patience, Transport
from amana.protocol.case import intake_key_id
from amana.protocol.encoding import b64, random_id, sha256_hex, unb64
from amana.protocol.identity import identity_document
from amana.protocol.release import (
    Request,
    SealedReason,
    reason_document,
    reason_sha256,
    seal_reason,
)
from amana.protocol.sealing import Identity
from amana.protocol.vault import Subset, open_released, open_share, seal_released
from tests.support.organisation import Organisation, Person
from tests.support.testimonies import Made

WHO = {"name": "[SYNTHETIC] سناء التجريبية", "contacts": [{"channel": "phone", "address": "000"}]}
REASON = "The court asks for the witness. تطلب المحكمة الشاهد."
ORIGINAL = b"\xff\xd8 an original with a place in it" * 100
CLEANED = b"\xff\xd8 a copy without" * 100
SCOPES = {"review": "allow", "contact": "allow", "icc": "allow", "iiim": "ask"}


def send_vaulted(organisation: Organisation, **options: Any) -> Made:
    """Let a testimony arrive with an identity and an original in the vault of today's custodians."""
    return organisation.send(**vault_options(organisation, **options))


def vault_options(organisation: Organisation, **options: Any) -> dict[str, Any]:
    custodians = organisation.directory.custodians
    defaults: dict[str, Any] = {
        "custodians": custodians.members,
        "k": custodians.k,
        "identity": identity_document(WHO),
        "files": (CLEANED,),
        "originals": (ORIGINAL,),
        "scopes": SCOPES,
        "identity_level": "prosecutors",
    }
    return defaults | options


@dataclass
class Vaulted:
    """One case, its reader, who has it, and everybody who holds a share."""

    organisation: Organisation
    made: Made
    reader: Person
    custodians: list[Person]
    extra_keys: dict[str, Identity] = field(default_factory=dict)
    """Intake keys of people who have two."""

    @classmethod
    def make(cls, organisation: Organisation, **options: Any) -> "Vaulted":
        organisation.clock.follow()
        made = send_vaulted(organisation, **options)
        reader = organisation.as_person(organisation.desks["chemical"][0]).sign_in()
        assert reader.claim(made.case).status_code == 204
        listed = organisation.directory.custodians.members
        keys = [one for one in organisation.of_role("custodian") if one.id in listed]
        return cls(organisation, made, reader, [organisation.as_person(one) for one in keys])

    @property
    def case(self) -> str:
        return self.made.case

    # The reader

    def body(self, reader: Person | None = None, **changes: Any) -> dict[str, Any]:
        """The body of a request, sealed to everybody who can answer it."""
        asking = (reader or self.reader).keys
        request = changes.pop("request", random_id())
        reason = changes.pop("reason", REASON)
        document = reason_document(reason, case=self.case, request=request)
        members = self.organisation.directory.custodians.members
        asked = Request(
            request=request,
            vault="identity",
            purpose="icc",
            to=None,
            days=7,
            intake_key=intake_key_id(asking.intake_recipient),
            reason_sha256=reason_sha256(document),
            reasons=tuple(
                SealedReason(one, intake_key_id(key), seal_reason(document, key))
                for one, key in sorted(members.items())
                if one != asking.id
            ),
        )
        return asked.body() | changes

    def ask(self, reader: Person | None = None, **changes: Any) -> Any:
        path = f"/v1/cases/{self.case}/releases"
        body = self.body(reader, **changes)
        return (reader or self.reader).act("release-request", path, self.case, **body)

    def asked(self, **changes: Any) -> str:
        """Ask, and return what the request is called."""
        answer = self.ask(**changes)
        assert answer.status_code == 201, answer.get_json()
        request: str = answer.get_json()["request"]
        return request

    def open(self, request: str, reader: Person | None = None) -> Any:
        path = f"/v1/releases/{request}/readings"
        return act(reader or self.reader, "release-open", path, self.case, {"request": request})

    def key_from(
        self, shares: list[dict[str, Any]], request: str, vault: str = "identity"
    ) -> bytes:
        """Put the key together from what was released, as the reader's program does."""
        by_set: dict[Subset, list[bytes]] = {}
        for one in shares:
            subset = tuple(one["subset"])
            share = open_released(
                unb64(one["sealed"]),
                self.reader.keys.intake,
                request=request,
                case=self.case,
                vault=vault,
                to=self.reader.keys.id,
                custodian=one["custodian"],
                subset=subset,
            )
            by_set.setdefault(subset, []).append(share)
        [first, *_] = by_set.values()
        return bytes(a ^ b for a, b in zip(*first, strict=True))

    # Custodians

    def own_shares(self, custodian: Person, request: str) -> Any:
        path = f"/v1/releases/{request}/openings"
        return act(custodian, "release-share", path, self.case, {"request": request})

    def sealed(
        self, custodian: Person, request: str, shares: list[dict[str, Any]], **changes: Any
    ) -> list[dict[str, Any]]:
        """Open one's shares and seal them to the reader."""
        found = []
        vault = changes.pop("vault", "identity")
        for one in shares:
            subset, keys = tuple(one["subset"]), custodian.keys
            labels: dict[str, Any] = {
                "case": self.case,
                "vault": vault,
                "custodian": keys.id,
                "subset": subset,
            }
            identity = self.extra_keys.get(keys.id) or keys.identity_for(one["intake_key"])
            assert identity is not None
            share = open_share(unb64(one["sealed"]), identity, **labels)
            recipient = self.reader.keys.intake_recipient
            data = seal_released(
                share,
                recipient,
                **{**labels, "request": request, "to": self.reader.keys.id, **changes},
            )
            found.append({"subset": list(subset), "sealed": b64(data)})
        return found

    def give(self, custodian: Person, request: str, given: list[dict[str, Any]]) -> Any:
        hashes = [
            {"subset": one["subset"], "sha256": sha256_hex(unb64(one["sealed"]))} for one in given
        ]
        return act(
            custodian,
            "release-share",
            f"/v1/releases/{request}/shares",
            self.case,
            {"request": request, "shares": hashes},
            {"shares": given},
        )

    def share(self, custodian: Person, request: str, **changes: Any) -> Any:
        """Do all that a custodian's program does."""
        own = self.own_shares(custodian, request)
        if own.status_code != 201:
            return own
        return self.give(
            custodian,
            request,
            self.sealed(custodian, request, own.get_json()["shares"], **changes),
        )

    def decline(self, custodian: Person, request: str) -> Any:
        document = reason_document("I know this person.", case=self.case, request=request)
        sealed = b64(seal_reason(document, self.reader.keys.intake_recipient))
        body = {"request": request, "reason": sealed}
        path = f"/v1/releases/{request}/refusals"
        return act(custodian, "release-decline", path, self.case, body, {"reason": sealed})

    def released(self, **changes: Any) -> str:
        """Ask, and let two custodians share."""
        request = self.asked(**changes)
        for one in self.custodians[:2]:
            vault = changes.get("vault", "identity")
            answer = self.share(one.sign_in(), request, vault=vault)
            assert answer.status_code == 201, answer.get_json()
        return request


def act(
    person: Person,
    kind: str,
    path: str,
    case: str,
    body: Mapping[str, Any],
    sent: Mapping[str, Any] | None = None,
) -> Any:
    """Sign an action over `body`, and bring it with what travels instead of the body."""
    version = person.organisation.directory.version
    action = person.action(case, action=kind, body=dict(body), directory=version)
    return person.post(path, {**(sent or {}), "action": action})


@dataclass
class Programs:
    """The real programs of readers and custodians, which go by the time of day; ends with its stack."""

    organisation: Organisation
    url: str
    stack: ExitStack

    def reader(self, keys: PersonKeys) -> ReleaseReader:
        return ReleaseReader(self._transport(), self.organisation.root, keys, patience=IMPATIENT)

    def custodian(self, keys: PersonKeys, **options: Any) -> Custodian:
        return Custodian(
            self._transport(), self.organisation.root, keys, patience=IMPATIENT, **options
        )

    def _transport(self) -> Transport:
        # However long a test has taken: the server's clock stands still, theirs do not.
        self.organisation.clock.follow()
        return self.stack.enter_context(Transport(self.url, silence_seconds=60))


IMPATIENT = Patience(attempts=2, first_seconds=0.01)


def make_custodian(description: dict[str, Any], keys: PersonKeys) -> None:
    """List somebody as a custodian, in a description of the directory."""
    members = description["custodians"]["members"]
    members.append({"id": keys.id, **intake_key_fields(keys)})
    description["people"] = [one for one in description["people"] if one["id"] != keys.id] + [
        {"id": keys.id, "roles": ["custodian"], "signing_key": keys.signing.public}
    ]


def drop_custodian(description: dict[str, Any], person: str) -> None:
    """Take somebody out of the custodians."""
    members = description["custodians"]["members"]
    description["custodians"]["members"] = [one for one in members if one["id"] != person]
    description["people"] = [one for one in description["people"] if one["id"] != person]
