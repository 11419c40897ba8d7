"""An accepted case on its way to the demonstration's partner, by hand: who asks, who approves, what is reported."""

import json
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import sqlalchemy as sa

from amana.client.keyfile import PersonKeys
from amana.custody.models import Event
from amana.protocol.custody import commitment_to
from amana.protocol.encoding import b64
from amana.protocol.handover import sign_handover
from amana.protocol.note import seal_note
from tests.support.organisation import Organisation, Person
from tests.support.testimonies import Made
from tests.support.vaults import Vaulted, vault_options

PURPOSE = "iiim"
SCOPES = {"review": "allow", PURPOSE: "allow", "opcw": "deny"}
BAG, SEALED, SIZE = "1" * 64, "2" * 64, 123456


@dataclass
class Leaving:
    """One case, with everybody who has to do with its export, signed in."""

    organisation: Organisation
    made: Made
    reader: Person
    administrator: Person
    partner: PersonKeys
    requests: dict[str, str] = field(default_factory=dict)

    @classmethod
    def accepted(
        cls, organisation: Organisation, *, accept: bool = True, **options: Any
    ) -> "Leaving":
        """Let a testimony arrive that may go to the partner, and be accepted by its reader."""
        made = organisation.send(**({"scopes": SCOPES, "files": (b"a photo",)} | options))
        reader = organisation.as_person(organisation.desks["chemical"][0]).sign_in()
        administrator = organisation.as_person(organisation.of_role("administrator")[0]).sign_in()
        [partner] = organisation.of_role("partner")
        assert reader.open(made.case).status_code == 201
        leaving = cls(organisation, made, reader, administrator, partner)
        if accept:
            leaving.decide_case("accept")
        return leaving

    @property
    def case(self) -> str:
        return self.made.case

    @property
    def arrival(self) -> bytes:
        """The leaf of the first event."""
        query = sa.select(Event.leaf, Event.event).where(Event.case == self.case)
        with self.organisation.services.database.reading() as session:
            [found] = [
                one.leaf
                for one in session.execute(query)
                if json.loads(one.event)["kind"] == "testimony-received"
            ]
        return bytes(found)

    @property
    def today(self) -> date:
        return self.organisation.clock().date()

    def decide_case(self, decision: str) -> None:
        reason = seal_note(
            self.reader.keys.signing,
            self.made.case_key.recipient,
            deployment=self.organisation.directory.deployment,
            case=self.case,
            author=self.reader.keys.id,
            audience="desk",
            kind="decision",
            content={"text": "[SYNTHETIC]", "decision": decision, "of": None},
            made_on=self.today.isoformat(),
        )
        path = f"/v1/cases/{self.case}/decisions"
        done = self.reader.act("decide", path, self.case, decision=decision, reason=b64(reason))
        assert done.status_code == 201, done.get_json()

    def ask(self, **changes: Any) -> Any:
        body = {
            "to": self.partner.id,
            "purpose": PURPOSE,
            "identity_level": "anonymous",
            "releases": [],
            **changes,
        }
        return self.reader.act(
            "export-request", f"/v1/cases/{self.case}/exports", self.case, **body
        )

    def asked(self) -> str:
        answer = self.ask()
        assert answer.status_code == 201, answer.get_json()
        assert answer.get_json()["state"] == "pending"
        export: str = answer.get_json()["export"]
        return export

    def told(self, export: str, person: Person | None = None) -> dict[str, Any]:
        listed = (person or self.administrator).get("/v1/exports").get_json()["exports"]
        found: dict[str, Any] = next(one for one in listed if one["export"] == export)
        return found

    def decide(
        self, export: str, decision: str = "approve", person: Person | None = None, **changes: Any
    ) -> Any:
        told = self.told(export)
        body = {
            "to": told["to"],
            "purpose": told["purpose"],
            "identity_level": told["identity_level"],
            "releases": told["releases"],
            "request": told["request"]["action"]["nonce"],
            "decision": decision,
            # Whoever approves with the client signs for all that the log holds.
            "custody": commitment_to([self.arrival]) if decision == "approve" else None,
            **changes,
        }
        path = f"/v1/exports/{export}/decisions"
        who = person or self.administrator
        version = self.organisation.directory.version
        signed = who.action(
            self.case,
            action="export-approve",
            body={"export": export, **body},
            directory=version,
        )
        return who.post(path, {"export": export, **body, "action": signed})

    def approved(self) -> str:
        export = self.asked()
        done = self.decide(export)
        assert (done.status_code, done.get_json()["state"]) == (200, "approved"), done.get_json()
        return export

    def may_leave(self, export: str) -> Any:
        return self.reader.get(f"/v1/exports/{export}/leave")

    def complete(self, export: str, person: Person | None = None) -> Any:
        made = {"bag_sha256": BAG, "sealed_sha256": SEALED, "size": SIZE}
        return self._act("export-complete", export, "completion", made, person)

    def file(self, export: str, document: dict[str, Any]) -> Any:
        return self._act("export-receipt", export, "receipt", {"receipt": document}, None)

    def _act(
        self, kind: str, export: str, step: str, body: dict[str, Any], person: Person | None
    ) -> Any:
        who = person or self.reader
        version = self.organisation.directory.version
        signed = who.action(
            self.case, action=kind, body={"export": export, **body}, directory=version
        )
        document = {"export": export, **body, "action": signed}
        return who.post(f"/v1/exports/{export}/{step}", document)

    def receipt(
        self, export: str, keys: PersonKeys | None = None, **changes: Any
    ) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "deployment": self.organisation.directory.deployment,
            "case": self.case,
            "export": export,
            "partner": self.partner.id,
            "sealed_sha256": SEALED,
            "bag_sha256": BAG,
            "received_on": self.today,
        }
        return sign_handover((keys or self.partner).signing, **(fields | changes))


class LeavingWithIdentity(Leaving):
    """A case whose identity and originals custodians may release, to be handed to the partner."""

    @classmethod
    def vaulted(cls, organisation: Organisation, **options: Any) -> "LeavingWithIdentity":
        made = cls.accepted(organisation, **vault_options(organisation, scopes=SCOPES, **options))
        assert isinstance(made, cls)
        return made

    @property
    def vault(self) -> Vaulted:
        """The same case as custodians see it."""
        custodians = map(self.organisation.as_person, self.organisation.of_role("custodian"))
        return Vaulted(self.organisation, self.made, self.reader, list(custodians))

    def released(self, vault: str = "identity", **changes: Any) -> str:
        """Ask two custodians to release a vault to be handed to the partner, who do."""
        fields = {"vault": vault, "purpose": PURPOSE, "to": self.partner.id, **changes}
        return self.vault.released(**fields)

    def ask_with(self, releases: dict[str, str], **changes: Any) -> Any:
        """Ask for an export with vaults under these releases."""
        listed = [{"vault": vault, "request": one} for vault, one in releases.items()]
        return self.ask(**{"identity_level": "prosecutors", "releases": listed, **changes})

    def asked_with(self, *vaults: str) -> str:
        answer = self.ask_with({vault: self.released(vault) for vault in vaults})
        assert answer.status_code == 201, answer.get_json()
        export: str = answer.get_json()["export"]
        return export
