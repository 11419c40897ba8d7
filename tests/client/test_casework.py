"""A reader at work: what does not open sends the case on, and a server's lies about notes show."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from amana.client.casework import Caseworker
from amana.client.errors import NotVerified, Refused, Usage
from amana.client.keyfile import PersonKeys
from amana.client.reviewer import GrantUnusable
from amana.client.transport import Patience, Transport
from amana.protocol.case import GRANT_SIZE, seal_grant
from amana.protocol.encoding import random_id
from amana.protocol.sealing import Identity
from tests.support.lying import Answer, Lying, in_json
from tests.support.officers import Officers
from tests.support.organisation import Organisation, organisation_in
from tests.support.testimonies import Made

TEXT = {"text": "Ask about the wind."}


@dataclass
class Desk:
    """An organisation, served by a server that can lie."""

    organisation: Organisation
    lying: Lying
    url: str

    @property
    def lead(self) -> PersonKeys:
        return self.organisation.desks["chemical"][0]

    @property
    def reader(self) -> PersonKeys:
        return self.organisation.desks["chemical"][1]

    @contextmanager
    def at_work(self, keys: PersonKeys) -> Iterator[Caseworker]:
        with Transport(self.url, silence_seconds=10) as transport:
            patience = Patience(attempts=2, first_seconds=0.01)
            yield Caseworker(transport, self.organisation.root, keys, patience=patience)


@contextmanager
def desk_in(folder: Path) -> Iterator[Desk]:
    with organisation_in(folder) as organisation:
        lying = Lying(organisation.app.wsgi_app)
        organisation.app.wsgi_app = lying  # type: ignore[method-assign]
        with organisation.served() as url:
            yield Desk(organisation, lying, url)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk_in(tmp_path_factory.mktemp("organisation")) as made:
        yield made


@pytest.fixture
def desk(served: Desk) -> Desk:
    """The served organisation, honest again."""
    served.lying.lies.clear()
    served.organisation.clock.follow()
    return served


def keeping_out(made: Made, person: PersonKeys, grant: bytes) -> Made:
    """Put another grant under a reader's label, as a witness's client may."""
    labelled = made.submission.labels.decode()
    place = labelled[: labelled.index(person.id)].count('"reader"') - 1
    grants = made.submission.grants
    start = place * GRANT_SIZE
    changed = grants[:start] + grant + grants[start + GRANT_SIZE :]
    return replace(made, submission=replace(made.submission, grants=changed))


@pytest.mark.parametrize("opens", [False, True], ids=["a dummy", "that of another case"])
def test_a_grant_that_does_not_open_the_case_is_caught_and_the_case_goes_on(
    desk: Desk, tmp_path: Path, opens: bool
) -> None:
    recipient = desk.reader.intake_recipient if opens else Identity.generate().recipient
    grant = seal_grant(Identity.generate(), recipient)
    made = keeping_out(desk.organisation.seal(), desk.reader, grant)
    desk.organisation.deliver(made)
    with desk.at_work(desk.reader) as reader:
        with pytest.raises(GrantUnusable):
            reader.open(made.case, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        reader.recuse(made.case, "grant-failed")
    with desk.at_work(desk.lead) as lead:
        assigned = {one.case: one.assigned for one in lead.cases()}
        assert assigned[made.case] == "offered"
        assert lead.open(made.case, tmp_path / "lead").claimed
        # Nor is the witness overruled by a colleague.
        with pytest.raises(Refused) as refused:
            lead.hand_over(made.case, desk.reader.id, second=True)
        assert refused.value.slug == "recused"


def test_who_was_given_no_grant_by_the_witness_is_told_who_sealed_it(
    desk: Desk, tmp_path: Path
) -> None:
    lead_alone = {desk.lead.id: desk.lead.intake_recipient}
    made = desk.organisation.send(readers=lead_alone)
    with desk.at_work(desk.lead) as lead:
        lead.claim(made.case)
        lead.hand_over(made.case, desk.reader.id, second=False)
    with desk.at_work(desk.reader) as reader:
        opened = reader.open(made.case, tmp_path / "out")
    assert "A colleague sealed it to you, not the witness." in opened.warnings
    with desk.at_work(desk.lead) as lead, pytest.raises(Refused) as refused:
        lead.open(made.case, tmp_path / "again")
    assert refused.value.slug == "not-assigned"


def test_a_lead_passes_on_what_they_cannot_open(desk: Desk, tmp_path: Path) -> None:
    reader_alone = {desk.reader.id: desk.reader.intake_recipient}
    made = desk.organisation.send(readers=reader_alone)
    with desk.at_work(desk.lead) as lead:
        lead.hand_over(made.case, desk.reader.id, second=False)
    with desk.at_work(desk.reader) as reader:
        assert reader.open(made.case, tmp_path / "out").claimed


@pytest.fixture
def noted(desk: Desk) -> Made:
    """A case with a note of its reader."""
    return with_a_note(desk)


def with_a_note(desk: Desk) -> Made:
    made = desk.organisation.send()
    with desk.at_work(desk.lead) as lead:
        lead.claim(made.case)
        assert lead.write(made.case, "note", TEXT) == 1
        [note] = lead.notes(made.case)
        assert note.verified
        assert note.content == TEXT
    return made


def changed(**fields: Any) -> Answer:
    return in_json(lambda document: document["notes"] and document["notes"][0].update(fields))


@pytest.mark.parametrize("fields", [{"author": random_id()}, {"audience": "all"}])
def test_a_note_under_another_name_is_shown_as_not_verified(
    desk: Desk, noted: Made, fields: dict[str, str]
) -> None:
    desk.lying.lies[f"/v1/cases/{noted.case}/notes"] = changed(**fields)
    with desk.at_work(desk.lead) as lead:
        [note] = lead.notes(noted.case)
    assert not note.verified
    assert note.author == desk.lead.id


def test_a_note_of_a_colleague_whom_the_directory_dropped_is_not_verified(
    tmp_path: Path,
) -> None:
    with desk_in(tmp_path) as own:
        _drop_a_colleague(own, with_a_note(own))


def _drop_a_colleague(desk: Desk, noted: Made) -> None:
    with desk.at_work(desk.lead) as lead:
        lead.hand_over(noted.case, desk.reader.id, second=True)
    with desk.at_work(desk.reader) as reader:
        reader.claim(noted.case)
        reader.write(noted.case, "note", TEXT)
    Officers(desk.organisation).remove(desk.reader.id)
    with desk.at_work(desk.lead) as lead:
        assert [one.verified for one in lead.notes(noted.case)] == [True, False]


@pytest.mark.parametrize(
    "fields", [{"n": "1"}, {"n": 0}, {"sealed": "AAAA"}, {"sealed": None}, {"author": "\x1b[2J"}]
)
def test_notes_out_of_their_form_are_refused(
    desk: Desk, noted: Made, fields: dict[str, Any]
) -> None:
    desk.lying.lies[f"/v1/cases/{noted.case}/notes"] = changed(**fields)
    with desk.at_work(desk.lead) as lead, pytest.raises(NotVerified):
        lead.notes(noted.case)


def test_a_duplicate_of_what_is_not_held_here_names_no_case(desk: Desk) -> None:
    made = desk.organisation.send()
    with desk.at_work(desk.lead) as lead:
        lead.claim(made.case)
        lead.decide(made.case, "duplicate", "Another organisation has it", None)
        [told] = lead.cases(state="duplicate")
        assert told.case == made.case
        [note] = [one for one in lead.notes(made.case) if one.kind == "decision"]
        assert note.verified
        assert note.content["of"] is None


def test_what_cannot_be_asked_is_not_sent(desk: Desk, noted: Made) -> None:
    with desk.at_work(desk.lead) as lead:
        desk.lying.seen.clear()
        with pytest.raises(Usage):
            lead.decide(noted.case, "accept", "good", random_id())
        with pytest.raises(Usage):
            lead.claim("../people")
        with pytest.raises(Usage):
            lead.hand_over(noted.case, "nobody", second=False)
        assert [one for one in desk.lying.seen if one[0] == "POST"] == []


def test_a_lead_whose_grant_is_a_dummy_passes_the_case_on(desk: Desk, tmp_path: Path) -> None:
    dummy = seal_grant(Identity.generate(), Identity.generate().recipient)
    made = keeping_out(desk.organisation.seal(), desk.lead, dummy)
    desk.organisation.deliver(made)
    with desk.at_work(desk.lead) as lead:
        lead.hand_over(made.case, desk.reader.id, second=False)
    with desk.at_work(desk.reader) as reader:
        assert reader.open(made.case, tmp_path / "out").claimed
