# SPDX-License-Identifier: AGPL-3.0-or-later
"""Somebody invited: they bring public keys, signed by themselves. Nothing secret leaves their device."""

from datetime import UTC, datetime

from amana.client.errors import NotVerified, Usage
from amana.client.keyfile import intake_key_fields
from amana.client.staff import Staff
from amana.protocol.encoding import check_id
from amana.protocol.enrolment import READERS, WITH_INTAKE_KEY, make_enrolment
from amana.protocol.errors import ProtocolError


class Newcomer(Staff):
    """Who is not listed yet and therefore cannot sign in."""

    def enrol(self, token: str, role: str, desks: list[str]) -> str:
        """Bring an enrolment under an invitation; returns one's id. Raises Refused and Usage."""
        if (role in WITH_INTAKE_KEY) != (self.keys.intake is not None):
            raise Usage(f"This key file is not one for a {role}.", slug="bad-role")
        if bool(desks) != (role in READERS):
            said = "Name every desk of the invitation with --desk."
            raise Usage(said if not desks else f"A {role} works at no desk.", slug="bad-desk")
        # Whoever shows another root or directory is found out before anything is told to them.
        deployment = self._directory().pins.deployment
        try:
            document = make_enrolment(
                self.keys.signing,
                deployment=deployment,
                token=check_id(token.strip()),
                role=role,
                desks=desks,
                person=self.keys.id,
                intake=intake_key_fields(self.keys) if self.keys.intake else None,
                made_on=datetime.now(UTC).date().isoformat(),
            )
        except ProtocolError as error:
            raise Usage(error.title, slug=error.slug) from None
        answer = self._desk.ask_openly(
            "POST", "/v1/enrolments", {"token": token.strip(), "enrolment": document}
        )
        if answer.status != 201:
            raise answer.refusal()
        if answer.document().get("id") != self.keys.id:
            raise NotVerified("The server's answer is not what was asked for.", slug="bad-answer")
        return self.keys.id
