"""What a witness's client believes of a server that lies about a testimony: nothing that can be checked."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from amana.client.control import Line, Standing, deliver, write_queue
from amana.client.directory import read_root
from amana.client.errors import ClientError, NetworkFailed, NotVerified, Usage
from amana.client.transport import Answer, Patience, Transport
from amana.protocol.codename import ThreadKeys, thread_keys
from amana.protocol.encoding import b64, sha256
from amana.protocol.policy import next_policy
from amana.protocol.signing import SigningKey
from tests.support.organisation import Organisation, organisation_in
from tests.support.testimonies import make_policy

Change = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def organisation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisation]:
    with organisation_in(tmp_path_factory.mktemp("organisation")) as made:
        yield made


@pytest.fixture(scope="module")
def server(organisation: Organisation) -> Iterator[str]:
    with organisation.served() as url:
        yield url


@pytest.fixture
def thread(request: pytest.FixtureRequest) -> ThreadKeys:
    """A codename of this test's own."""
    return thread_keys(sha256(request.node.name.encode()))


class Wire(Transport):
    """A way to the server on which answers are changed, or lost."""

    def __init__(self, server: str, change: Change | None, lost: list[int]) -> None:
        super().__init__(server)
        self._change, self._lost = change, lost

    def ask(self, *arguments: Any, **options: Any) -> Answer:
        answer = super().ask(*arguments, **options)
        if self._lost:
            self._lost.pop()
            raise NetworkFailed("The connection to the server was cut.")
        if self._change is None or answer.status != 200:
            return answer
        return replace(answer, body=json.dumps(self._change(answer.document())).encode())


def line(
    organisation: Organisation,
    server: str,
    thread: ThreadKeys,
    change: Change | None = None,
    lost: list[int] | None = None,
) -> Line:
    left = lost if lost is not None else []
    return Line(
        connect=lambda: Wire(server, change, left),
        thread=thread,
        pins=read_root(organisation.root),
        patience=Patience(attempts=3, first_seconds=0, longest_seconds=0),
        pause_seconds=0,
    )


def send(organisation: Organisation, control: SigningKey, **options: Any) -> str:
    """Let a testimony under a given control key arrive."""
    made = organisation.seal(control=control, **options)
    organisation.deliver(made)
    return made.case


def test_testimonies_are_found_also_behind_numbers_that_were_never_sent(
    organisation: Organisation, server: str, thread: ThreadKeys
) -> None:
    cases = [send(organisation, thread.control(number)) for number in (0, 3, 6)]
    send(organisation, thread.control(10))
    found = list(line(organisation, server, thread).standings())
    assert [(one.number, one.case) for one in found] == list(zip((0, 3, 6), cases, strict=True))


def test_a_statement_whose_answer_was_lost_counts_once(
    organisation: Organisation, server: str, thread: ThreadKeys
) -> None:
    send(organisation, thread.control(0))
    [standing] = line(organisation, server, thread).standings()
    withdrawn = line(organisation, server, thread, lost=[1]).say(standing, "withdraw")
    assert (withdrawn.state, withdrawn.head.seq) == ("withdrawn", 1)
    back = line(organisation, server, thread).say(withdrawn, "take-back")
    assert (back.state, back.head.seq, back.withdrawal) == ("received", 2, None)


def foreign_policy(told: dict[str, Any]) -> dict[str, Any]:
    policy = make_policy(SigningKey.generate())
    return {**told, "policies": [{**told["policies"][0], "policy": b64(policy)}]}


@pytest.mark.parametrize(
    "change",
    [
        foreign_policy,
        lambda told: {**told, "policies": []},
        lambda told: {**told, "policies": told["policies"] * 2},
        lambda told: {**told, "policies": [{**told["policies"][0], "received_on": "today"}]},
        lambda told: {**told, "state": "re\x1b[31mceived"},
        lambda told: {**told, "state": None},
        lambda told: {**told, "case": "../../etc"},
        lambda told: {**told, "seq": -1},
        lambda told: {**told, "seq": "0"},
        lambda told: {**told, "prev_sha256": "x"},
        lambda told: {**told, "opened": [{"reader": "\x1b[2J", "day": "2026-01-01"}]},
        lambda told: {**told, "opened": None},
        lambda told: {**told, "withdrawal": {"asked_on": "2026-01-01"}},
        lambda told: {**told, "ends_on": "soon"},
        lambda told: {**told, "expiry": {"expired_on": "2026-01-01"}},
        lambda told: {
            **told,
            "policies": [],
            "expiry": {
                "expired_on": "2026-01-01",
                "destroyed_on": None,
                "backups_until": "2026-02-05",
            },
        },
        lambda told: {name: told[name] for name in ("case", "state")},
    ],
)
def test_a_status_that_does_not_verify_is_not_believed(
    organisation: Organisation, server: str, thread: ThreadKeys, change: Change
) -> None:
    if line(organisation, server, thread).standing(0) is None:
        send(organisation, thread.control(0))
    with pytest.raises(NotVerified):
        line(organisation, server, thread, change).standing(0)


def without_receipt(told: dict[str, Any]) -> dict[str, Any]:
    return {**told, "receipt": None}


def other_receipt(told: dict[str, Any]) -> dict[str, Any]:
    event = {**told["receipt"]["event"], "statement": "take-back"}
    return {**told, "receipt": {**told["receipt"], "event": event}}


@pytest.mark.parametrize("change", [without_receipt, other_receipt])
def test_a_change_without_its_receipt_is_not_believed(
    organisation: Organisation, server: str, thread: ThreadKeys, change: Change
) -> None:
    send(organisation, thread.control(0))
    standing = line(organisation, server, thread).standing(0)
    assert standing is not None
    with pytest.raises(NotVerified):
        line(organisation, server, thread, change).say(standing, "withdraw")


def test_a_receipt_for_another_statement_is_not_believed(
    organisation: Organisation, server: str, thread: ThreadKeys
) -> None:
    send(organisation, thread.control(0))
    kept: list[Any] = []

    def keep(told: dict[str, Any]) -> dict[str, Any]:
        kept.append(told["receipt"])
        return told

    honest, lying = (
        line(organisation, server, thread, keep),
        line(organisation, server, thread, lambda told: {**told, "receipt": kept[0]}),
    )
    standing = honest.standing(0)
    assert standing is not None
    kept.clear()
    withdrawn = honest.say(standing, "withdraw")
    back = honest.say(withdrawn, "take-back")
    with pytest.raises(NotVerified) as refused:
        lying.say(back, "withdraw")
    assert refused.value.slug == "receipt-differs"


def test_a_policy_follows_what_was_told(
    organisation: Organisation, server: str, thread: ThreadKeys
) -> None:
    send(organisation, thread.control(0))
    here = line(organisation, server, thread)
    standing = here.standing(0)
    assert standing is not None

    def following(told: Standing) -> bytes:
        return next_policy(
            thread.control(0), told.policy, scopes={}, identity_level="anonymous", made_on="2026-11-24"
        )  # fmt: skip

    changed = here.say(standing, "consent", following(standing))
    assert [entry.policy.seq for entry in changed.entries] == [0, 1]
    with pytest.raises(ClientError) as refused:
        here.say(changed, "consent", following(standing))
    assert refused.value.slug == "policy-order"


def test_a_queue_that_was_changed_is_refused_whole(
    organisation: Organisation, server: str, thread: ThreadKeys, tmp_path: Path
) -> None:
    send(organisation, thread.control(0))
    pins = read_root(organisation.root)
    queue = tmp_path / "queue"
    write_queue(queue, thread, pins, 2)
    written = queue.read_text()
    for seed in (b64(thread.control(0).seed), thread.control(0).seed.hex()):
        assert seed not in written
    document = json.loads(written)
    document["statements"][1]["made_on"] = "2026-01-01"
    queue.write_text(json.dumps(document))
    with pytest.raises(Usage):
        deliver(queue, lambda: Transport(server), pins, Patience(1), 0)
    assert line(organisation, server, thread).standing(0).state == "received"  # type: ignore[union-attr]
    queue.write_text(written)
    done = deliver(queue, lambda: Transport(server), pins, Patience(1), 0)
    assert (len(done.cases), done.unknown, done.refused) == (1, 1, ())
    write_queue(queue, thread, pins, 1)
    assert deliver(queue, lambda: Transport(server), pins, Patience(1), 0).cases == ()
