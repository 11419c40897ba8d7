"""A witness who has a control key and nothing else, speaking HTTP by hand."""

from dataclasses import dataclass
from typing import Any

from amana.protocol.control import Head, sign_control
from amana.protocol.encoding import unb64
from amana.protocol.policy import next_policy, parse_policy
from tests.support.organisation import Organisation
from tests.support.testimonies import Made


@dataclass
class Witness:
    """Says things about one testimony by hand."""

    organisation: Organisation
    made: Made

    def say(self, statement: dict[str, Any]) -> Any:
        client = self.organisation.app.test_client()
        return client.post("/v1/control", json={"statement": statement})

    def statement(self, kind: str, head: Head | None = None, **changes: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "deployment": self.organisation.directory.deployment,
            "made_on": self.organisation.clock().date(),
            **changes,
        }
        key = fields.pop("key", self.made.control)
        return sign_control(key, kind=kind, head=head, **fields)

    def status(self) -> dict[str, Any]:
        answer = self.say(self.statement("status"))
        assert answer.status_code == 200, answer.get_json()
        told: dict[str, Any] = answer.get_json()
        return told

    @property
    def head(self) -> Head:
        told = self.status()
        return Head(told["seq"], told["prev_sha256"])

    def change(self, kind: str, **changes: Any) -> Any:
        return self.say(self.statement(kind, self.head, **changes))

    def policy(self, scopes: dict[str, str], level: str = "anonymous", **options: Any) -> bytes:
        """The next policy of this testimony."""
        last = parse_policy(unb64(self.status()["policies"][-1]["policy"]))
        today = self.organisation.clock().date().isoformat()
        key = options.get("key", self.made.control)
        return next_policy(key, last, scopes=scopes, identity_level=level, made_on=today)

    def consent(self, scopes: dict[str, str], **options: Any) -> Any:
        return self.change("consent", policy=self.policy(scopes, **options))
