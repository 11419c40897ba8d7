"""The life of an account against a model: nobody works who is not listed, confirmed, active, and not suspended.

They come invited, or the officers list them by hand; many of those never sign in.
"""

import tempfile
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.newcomers import bring, enrolment, invite, list_by_hand, new_keys, vetting
from tests.support.officers import Officers
from tests.support.organisation import Person, organisation_in

REFUSED = {
    "suspended": "suspended",
    "expired": "access-expired",
    "lapsed": "access-lapsed",
    "dormant": "access-dormant",
}


class Life(RuleBasedStateMachine):
    """One newcomer, two administrators, the officers, and time."""

    @initialize()
    def begin(self) -> None:
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.organisation = self.stack.enter_context(organisation_in(folder))
        self.officers = Officers(self.organisation)
        keys = self.organisation.of_role("administrator")
        self.administrators = [self.organisation.as_person(one).sign_in() for one in keys]
        self.token = ""
        self.keys = new_keys()
        self.person = Person(self.organisation, self.keys)
        self.known = self.enrolled = self.listed = self.was_listed = False
        self.suspended = self.in_session = False
        self.consents: set[int] = set()
        self.confirmed_on = self.seen_on = date.min
        self.valid_until: date | None = None
        self.root_signed_on = self.today

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()

    @property
    def today(self) -> date:
        return self.organisation.clock().date()

    @property
    def standing(self) -> str:
        if self.suspended:
            return "suspended"
        if self.valid_until is not None and self.valid_until < self.today:
            return "expired"
        if self.confirmed_on < self.today - timedelta(days=90):
            return "lapsed"
        if self.seen_on < self.today - timedelta(days=90):
            return "dormant"
        return "active"

    def decide(self, by: int, kind: str, path: str, **body: object) -> int:
        address = f"/v1/people/{self.keys.id}/{path}"
        answer = self.administrators[by].act(kind, address, person=self.keys.id, **body)
        return int(answer.status_code)

    def become_known(self) -> None:
        """The first thing that happens to them begins their days; nothing later does that again."""
        if not self.known:
            self.known, self.confirmed_on, self.seen_on = True, self.today, self.today

    @rule()
    def an_administrator_invites(self) -> None:
        self.token, self.invited_on = invite(self.administrators[0]), self.today

    @precondition(lambda self: self.token)
    @rule()
    def the_invited_enrols(self) -> None:
        answer = bring(
            self.organisation, self.token, enrolment(self.organisation, self.keys, self.token)
        )
        if self.today > self.invited_on + timedelta(days=7):
            assert answer.status_code == 403
            self.token = ""
            return
        assert answer.status_code == (409 if self.known else 201)
        if not self.known:
            self.enrolled, self.token = True, ""
            self.become_known()

    @precondition(lambda self: self.enrolled and not self.was_listed and not self.suspended)
    @rule()
    def the_officers_list_them(self) -> None:
        waiting = self.administrators[1].get("/v1/enrolments").get_json()["enrolments"]
        assert [one["id"] for one in waiting] == [self.keys.id]
        self.officers.accept(waiting, self.keys.id)
        self.listed = self.was_listed = True

    @precondition(lambda self: not self.listed)
    @rule()
    def the_officers_list_them_by_hand(self) -> None:
        self.officers.publish(lambda description: list_by_hand(description, self.keys))
        self.listed = self.was_listed = True
        self.become_known()

    @precondition(lambda self: self.listed)
    @rule()
    def they_leave(self) -> None:
        self.officers.remove(self.keys.id)
        self.listed = False

    @rule()
    def they_sign_in(self) -> None:
        answer = self.person.offer(self.person.assertion())
        if not self.listed:
            assert answer.status_code == 401
        elif self.standing != "active":
            assert answer.status_code == 403
            assert answer.get_json()["type"] == REFUSED[self.standing]
        else:
            assert answer.status_code == 201
            self.person.token = answer.get_json()["access_token"]
            self.in_session, self.seen_on = True, self.today

    @precondition(lambda self: self.in_session and self.listed and self.standing == "active")
    @rule()
    def they_sign_out(self) -> None:
        headers = self.person.signed("DELETE", "/v1/sessions")
        assert self.person.client.delete("/v1/sessions", headers=headers).status_code == 204
        self.in_session = False

    @precondition(lambda self: self.known)
    @rule(by=st.sampled_from([0, 1]))
    def an_administrator_suspends(self, by: int) -> None:
        expected = 409 if self.suspended else 201
        assert self.decide(by, "suspend", "suspension", reason="lost device") == expected
        if not self.suspended:
            self.suspended, self.in_session = True, False
            self.consents = set()

    @precondition(lambda self: self.known)
    @rule(by=st.sampled_from([0, 1]))
    def an_administrator_agrees_to_reinstate(self, by: int) -> None:
        answer = self.decide(by, "reinstate", "reinstatement", reason="found again")
        assert answer == (409 if not self.suspended or by in self.consents else 200)
        if self.suspended:
            self.consents.add(by)
            self.suspended = len(self.consents) < 2

    @precondition(lambda self: self.known)
    @rule(by=st.sampled_from([0, 1]))
    def an_administrator_confirms(self, by: int) -> None:
        assert self.decide(by, "confirm", "confirmation") == 204
        self.confirmed_on = self.seen_on = self.today

    @precondition(lambda self: self.known)
    @rule(days=st.sampled_from([0, 30, 120]))
    def an_administrator_vets(self, days: int) -> None:
        assert self.decide(0, "vet", "vetting", **vetting(self.organisation, days)) == 204
        self.valid_until = self.today + timedelta(days=days)

    @rule(days=st.sampled_from([1, 7, 30, 60]))
    def time_passes(self, days: int) -> None:
        self.organisation.clock.turn(days=days)
        self.in_session = False
        # The officers sign a new root before theirs, of a year, has expired: nothing could be published after it.
        if self.today > self.root_signed_on + timedelta(days=270):
            self.officers.rotate()
            self.root_signed_on = self.today
        # The administrators work every few weeks, and confirm each other.
        for one, other in (self.administrators, self.administrators[::-1]):
            one.sign_in()
            path = f"/v1/people/{other.keys.id}/confirmation"
            assert one.act("confirm", path, person=other.keys.id).status_code == 204

    @invariant()
    def they_work_only_when_everything_allows_it(self) -> None:
        if not hasattr(self, "person") or not self.person.token:
            return
        allowed = self.in_session and self.listed and self.standing == "active"
        assert (self.person.get("/v1/cases").status_code == 200) == allowed

    @invariant()
    def everybody_sees_how_they_stand(self) -> None:
        if not hasattr(self, "person"):
            return
        known = self.administrators[0].get("/v1/people").get_json()["people"]
        found = {one["id"]: one for one in known}
        if not self.known:
            assert self.keys.id not in found
            return
        shown = found[self.keys.id]
        expected = self.standing
        if not self.listed and expected != "suspended":
            expected = "gone" if self.was_listed else "pending"
        assert (shown["standing"], shown["listed"]) == (expected, self.listed)
        due_on = self.confirmed_on + timedelta(days=90)
        assert shown["due_on"] == due_on.isoformat()
        reviews = self.administrators[0].get("/v1/access-reviews").get_json()["due"]
        is_due = self.listed and due_on <= self.today + timedelta(days=14)
        assert (self.keys.id in [one["id"] for one in reviews]) == is_due


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
