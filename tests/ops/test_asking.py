"""Whoever is asked over the network is asked alone, again when it is due, and ever more rarely while they fail."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from amana.errors import OtherFailed
from amana.ops import asking
from amana.ops.asking import Asker


@dataclass
class Asking(Asker):
    """Asks `one` and `two`, who do as they are told to."""

    name = "asking"
    look_seconds = 0.0
    first_seconds = 1.0

    does: dict[str, Callable[[], None]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def is_needed(self) -> bool:
        return True

    def ask_all(self) -> list[threading.Thread]:
        return [
            thread
            for who in ("one", "two")
            for thread in self._begin(("log", who), lambda who=who: self._ask(who))
        ]

    def _ask(self, who: str) -> None:
        self.asked.append(who)
        self.does.get(who, lambda: None)()

    def turn(self) -> list[str]:
        """Ask once; returns who was asked."""
        self.asked.clear()
        self.ask_and_wait(30)
        return sorted(self.asked)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(asking.time, "monotonic", lambda: now[0])
    return now


def an_asker(**options: Any) -> Asking:
    return Asking(cast(Any, None), cast(Any, None), **options)


def fail(error: Exception) -> Callable[[], None]:
    def do() -> None:
        raise error

    return do


@pytest.mark.parametrize("error", [OtherFailed("cosigner-away"), RuntimeError("[SYNTHETIC]")])
def test_whoever_fails_is_left_alone_longer_each_time_and_nobody_else_is(
    clock: list[float], capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    asker = an_asker(again_seconds=3.0, does={"one": fail(error)})
    for pause in (1.0, 2.0, 3.0, 3.0):
        assert asker.turn() == ["one", "two"]
        clock[0] += pause - 0.1
        assert asker.turn() == ["two"]
        clock[0] += 0.2
    asker.does.clear()
    assert asker.turn() == ["one", "two"]
    asker.does["one"] = fail(error)
    assert asker.turn() == ["one", "two"]
    # As after a first failure, since it had answered.
    clock[0] += 1.1
    assert asker.turn() == ["one", "two"]
    said = capsys.readouterr()
    assert "[SYNTHETIC]" not in said.out + said.err


def test_whoever_is_slow_is_asked_once_and_delays_nobody() -> None:
    answer = threading.Event()
    asker = an_asker(does={"one": lambda: answer.wait(60) and None})
    slow, quick = asker.ask_all()
    quick.join()
    asker.asked.clear()
    for thread in asker.ask_all():
        thread.join()
    assert asker.asked == ["two"]
    answer.set()
    slow.join()
    assert asker.turn() == ["one", "two"]
