"""Whatever two readers and the witness do, in whatever order: the server does what the model does, or refuses as it does."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run

from amana.intake import models as intake
from amana.protocol.encoding import b64
from amana.protocol.sealing import Identity, Kind, seal
from amana.replies import service as replies
from amana.replies.service import ASKS_PER_CASE
from amana.routing.models import RoutingTask
from tests.support.organisation import Organisation, organisation_in
from tests.support.questions import ask
from tests.support.statements import Witness

LEAD, READER = 0, 1
PEOPLE = st.sampled_from([LEAD, READER])
DECISIONS = {
    "accept": "accepted",
    "decline": "declined",
    "refer": "referred",
    "duplicate": "duplicate",
}


@dataclass
class Model:
    """Who has the case (person, whether claimed), and where it stands."""

    state: str = "received"
    first: tuple[int, bool] | None = None
    second: tuple[int, bool] | None = None
    recused: set[int] = field(default_factory=set)
    asked: int = 0

    @property
    def decided(self) -> bool:
        return self.state in DECISIONS.values()

    @property
    def withdrawn(self) -> bool:
        return self.state == "withdrawn"

    def has(self, who: int) -> bool:
        return (who, True) in {self.first, self.second}

    def claim(self, who: int) -> int:
        if self.has(who):
            return 409
        if self.second == (who, False):
            self.second = (who, True)
            return 204
        if self.first is not None and self.first[1]:
            return 409
        if who in self.recused:
            return 422
        if self.withdrawn:
            return 410
        # What was decided, and nobody has any more, can be taken up again.
        self.first = (who, True)
        self.state = self.state if self.decided else "in-review"
        return 204

    def let_go(self, who: int) -> None:
        if self.first is not None and self.first[0] == who:
            self.first = None
            self.state = self.state if self.decided else "received"
        if self.second is not None and self.second[0] == who:
            self.second = None

    def release(self, who: int) -> int:
        if self.withdrawn:
            return 410
        if not self.has(who):
            return 403
        self.let_go(who)
        return 204

    def recuse(self, who: int) -> int:
        self.recused.add(who)
        self.let_go(who)
        return 204

    def hand_over(self, who: int, to: int, second: bool) -> int:
        if self.withdrawn or (self.first != (who, True) and who != LEAD):
            return 410 if self.withdrawn else 403
        if self.first is not None and self.first[1] and self.first[0] != who:
            return 409
        has_it = to in {one[0] for one in (self.first, self.second) if one}
        if to == who or has_it or (to not in self.recused and self.decided and not second):
            return 409
        if to in self.recused:
            return 422
        if second:
            self.second = (to, False)
            return 204
        self.first, self.state = (to, False), "received"
        return 204

    def open(self, who: int) -> int:
        if self.withdrawn:
            return 410
        if not self.has(who):
            return 403
        return 409 if self.state == "received" else 201

    def decide(self, who: int, decision: str) -> int:
        if self.withdrawn:
            return 410
        if self.first != (who, True):
            return 403
        if self.decided:
            return 409
        self.state = DECISIONS[decision]
        return 201

    def move(self, who: int, states: tuple[str, ...], following: str, asked: bool = False) -> int:
        if self.withdrawn:
            return 410
        if self.first != (who, True):
            return 403
        if asked and self.asked == ASKS_PER_CASE:
            return 409
        if self.state not in states:
            return 409
        self.state = following
        self.asked += asked
        return 201

    def withdraw(self) -> int:
        if self.withdrawn:
            return 410
        self.state, self.first, self.second = "withdrawn", None, None
        return 200

    def take_back(self) -> int:
        if not self.withdrawn:
            return 409
        self.state = "received"
        return 200

    def route(self, chosen: tuple[int, bool] | None) -> None:
        """Follow what routing chose, which the rules' own tests judge: somebody who may have it, or nobody."""
        if self.state != "received" or self.first is not None:
            assert chosen == self.first
        elif chosen is not None:
            assert not chosen[1]
            assert chosen[0] not in self.recused
            self.first = chosen
            if self.second is not None and self.second[0] == chosen[0]:
                self.second = None


class LifeOfACase(RuleBasedStateMachine):
    """Runs the model beside the real application."""

    organisation: ClassVar[Organisation]

    @initialize()
    def begin(self) -> None:
        self.organisation.clock.follow()
        self.people = [
            self.organisation.as_person(one).sign_in()
            for one in self.organisation.desks["chemical"]
        ]
        scopes = {"review": "allow", "contact": "allow"}
        self.witness = Witness(self.organisation, self.organisation.send(scopes=scopes))
        self.case = self.witness.made.case
        self.model = Model()

    def _agree(self, answer: Any, status: int) -> None:
        assert answer.status_code == status, answer.get_json()

    @rule(who=PEOPLE)
    def claim(self, who: int) -> None:
        self._agree(self.people[who].claim(self.case), self.model.claim(who))

    @rule(who=PEOPLE)
    def release(self, who: int) -> None:
        self._agree(self.people[who].release(self.case), self.model.release(who))

    @rule(who=PEOPLE)
    def recuse(self, who: int) -> None:
        path = f"/v1/cases/{self.case}/recusals"
        answer = self.people[who].act("recuse", path, self.case, reason="other")
        self._agree(answer, self.model.recuse(who))

    @rule(who=PEOPLE, to=PEOPLE, second=st.booleans())
    def hand_over(self, who: int, to: int, second: bool) -> None:
        answer = self.people[who].hand_over(self.case, self.people[to].keys.id, second=second)
        self._agree(answer, self.model.hand_over(who, to, second))

    @rule(who=PEOPLE)
    def read_beside(self, who: int) -> None:
        """Bring in a second reader, as chance alone seldom does; whether there is a first reader or not."""
        other = READER if who == LEAD else LEAD
        self.hand_over(who, other, True)
        self.claim(other)

    @rule(who=PEOPLE)
    def let_go_and_route(self, who: int) -> None:
        self.release(who)
        self.route()

    @rule(who=PEOPLE)
    def open(self, who: int) -> None:
        person = self.people[who]
        answer = person.post(
            f"/v1/cases/{self.case}/openings", {"action": person.action(self.case)}
        )
        self._agree(answer, self.model.open(who))

    @rule(who=PEOPLE, decision=st.sampled_from(sorted(DECISIONS)))
    def decide(self, who: int, decision: str) -> None:
        reason = b64(seal(b"because", Identity.generate().recipient, Kind.NOTE))
        path = f"/v1/cases/{self.case}/decisions"
        answer = self.people[who].act("decide", path, self.case, decision=decision, reason=reason)
        self._agree(answer, self.model.decide(who, decision))

    @rule(who=PEOPLE)
    def ask(self, who: int) -> None:
        answer = ask(self.people[who], self.witness.made)
        self._agree(answer, self.model.move(who, ("in-review", "waiting"), "waiting", asked=True))

    @rule(who=PEOPLE)
    def resume(self, who: int) -> None:
        path = f"/v1/cases/{self.case}/resumptions"
        answer = self.people[who].act("resume", path, self.case)
        self._agree(answer, self.model.move(who, ("waiting",), "in-review"))

    @rule(who=PEOPLE)
    def reopen(self, who: int) -> None:
        path = f"/v1/cases/{self.case}/reopenings"
        reason = b64(seal(b"because", Identity.generate().recipient, Kind.NOTE))
        answer = self.people[who].act("reopen", path, self.case, reason=reason)
        self._agree(answer, self.model.move(who, tuple(DECISIONS.values()), "in-review"))

    @rule()
    def withdraw(self) -> None:
        self._agree(self.witness.change("withdraw"), self.model.withdraw())

    @rule()
    def take_back(self) -> None:
        self._agree(self.witness.change("take-back"), self.model.take_back())

    @rule()
    def route(self) -> None:
        assert self.people[READER].get("/v1/cases").status_code == 200
        self.model.route(self._seen()[1].get("first"))

    def _seen(self) -> tuple[str, dict[str, tuple[int, bool]]]:
        found = self.people[LEAD].get(f"/v1/cases/{self.case}").get_json()
        ids = [one.keys.id for one in self.people]
        there = {
            one["part"]: (ids.index(one["reader"]), one["claimed_on"] is not None)
            for one in found["assignments"]
        }
        return found["state"], there

    @invariant()
    def the_server_has_what_the_model_has(self) -> None:
        if not hasattr(self, "model"):
            return
        state, there = self._seen()
        assert state == self.model.state
        assert (there.get("first"), there.get("second")) == (self.model.first, self.model.second)

    @invariant()
    def nothing_is_ever_unroutable(self) -> None:
        """What nobody has waits for routing, or a lead has the task."""
        if not hasattr(self, "model") or self.model.state != "received":
            return
        with self.organisation.services.database.reading() as session:
            waits = not session.get_one(intake.Testimony, self.case).routed
            is_told = session.get(RoutingTask, self.case) is not None
        assert (self.model.first is None) == (waits or is_told)


@pytest.fixture
def organisation(database_url: str, tmp_path: Path) -> Iterator[Organisation]:
    with organisation_in(tmp_path, database_url) as made:
        yield made


def test_the_life_of_a_case_is_that_of_the_model(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All of this happens on one day; how often one reader may ask in it is tested elsewhere.
    monkeypatch.setattr(replies, "ASKS_PER_READER", 100_000)
    LifeOfACase.organisation = organisation
    run(
        LifeOfACase,
        settings=settings(
            max_examples=30,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
