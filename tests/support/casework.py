"""A reader who takes a case and decides it, by hand, with the key that only the test's sender knows."""

from amana.protocol.encoding import b64
from amana.protocol.note import seal_note
from tests.support.organisation import Person
from tests.support.testimonies import Made


def reason(person: Person, made: Made) -> bytes:
    """Seal the reason of a decision as its reader would."""
    return seal_note(
        person.keys.signing,
        made.case_key.recipient,
        deployment=person.organisation.directory.deployment,
        case=made.case,
        author=person.keys.id,
        audience="desk",
        kind="note",
        content={"text": "Because"},
        made_on=person.organisation.clock().date().isoformat(),
    )


def decide_case(person: Person, made: Made, decision: str = "decline") -> None:
    """Open a case and decide it."""
    assert person.open(made.case).status_code == 201
    path = f"/v1/cases/{made.case}/decisions"
    sealed = b64(reason(person, made))
    answer = person.act("decide", path, made.case, decision=decision, reason=sealed)
    assert answer.status_code == 201, answer.get_json()
