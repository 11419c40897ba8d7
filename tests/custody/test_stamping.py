"""Checkpoints are stamped by a real authority, once in a round; one that is silent or wrong costs nothing but its stamp."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from amana.api.services import Services
from amana.client.directory import read_root
from amana.config import ConfigInvalid, read_config
from amana.custody import stamping
from amana.custody.models import Log, StampingRound, TimeStamp
from amana.ops.doctor import examine
from amana.ops.logkeeping import recover_log
from amana.ops.maintenance import maintain
from amana.ops.sequencer import sequence
from amana.ops.stamper import Stamper, stamp
from amana.protocol.checkpoint import NoteKey, open_checkpoint
from amana.protocol.timestamp import LIMIT_BYTES, Stamp, make_request, verify_stamp
from tests.support.authority import Authority, AuthorityServer, serving, stamped_by
from tests.support.organisation import Organisation, organisation_on
from tests.support.socks import socks_server

Captured = pytest.CaptureFixture[str]
on_both = pytest.mark.parametrize("stamped", ["sqlite", "postgresql"], indirect=True)


@dataclass
class Stamped:
    """An organisation whose settings name an authority, and that authority."""

    organisation: Organisation
    services: Services
    authority: Authority
    server: AuthorityServer

    def grow(self) -> None:
        self.organisation.send()
        sequence(self.services)

    def round(self, **options: bool) -> int:
        """Let a process that knows nothing of the ones before ask for what is owed."""
        stamper = Stamper(self.services, self.services.database, again_seconds=0, **options)
        return stamper.round()

    def key(self, name: str = "custody") -> NoteKey:
        pins = read_root(self.organisation.root)
        return pins.custody_log if name == "custody" else pins.directory_log

    def get(self, path: str) -> bytes:
        answer = self.organisation.app.test_client().get(f"/log/{path}")
        assert answer.status_code == 200, path
        return answer.data

    def sizes(self, name: str = "custody") -> list[int]:
        with self.services.database.reading() as session:
            query = sa.select(TimeStamp.size).join(Log, Log.id == TimeStamp.log)
            return sorted(session.scalars(query.where(Log.name == name)))

    def fetched(self, name: str, place: int) -> tuple[int, Stamp]:
        """Fetch the earliest stamp over a place as anybody can, and verify all of it."""
        size, authority = self.get(f"{name}/stamps/{place}").decode().split()
        stamped = self.get(f"{name}/stamp/{size}/checkpoint")
        assert open_checkpoint(stamped, self.key(name)).checkpoint.size == int(size) > place
        response = self.get(f"{name}/stamp/{size}/{authority}.tsr")
        found = verify_stamp(response, stamped, [self.authority.root])
        assert self.get(f"{name}/stamp/{size}/{authority}.pem") == found.chain_pem
        return int(size), found


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "a")


@pytest.fixture
def stamped(
    request: pytest.FixtureRequest, tmp_path: Path, authority: Authority
) -> Iterator[Stamped]:
    with (
        organisation_on(getattr(request, "param", "sqlite"), request, tmp_path / "o") as made,
        serving(authority.reply) as server,
    ):
        services = stamped_by(made.services, {"clock": (server, authority)})
        sequence(services)
        yield Stamped(made, services, authority, server)


@on_both
def test_both_logs_are_stamped_and_anybody_can_fetch_and_verify_that(stamped: Stamped) -> None:
    assert stamped.get("directory/stamps/0") == b""
    stamped.grow()
    done = maintain(stamped.services)
    assert done.done["checkpoints_stamped"] == 2
    assert done.failed == ()
    for name in ("custody", "directory"):
        size, found = stamped.fetched(name, 0)
        assert [size] == stamped.sizes(name)
        assert found.authority == stamped.authority.name
        path = f"log/{name}/stamp/{size}"
        for file in ("checkpoint", "clock.tsr", "clock.pem"):
            there = stamped.services.blobs.get_file(f"{path}/{file}")
            answer = stamped.organisation.app.test_client().get(f"/{path}/{file}")
            assert answer.data == there
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    size = stamped.sizes()[0]
    assert stamped.get(f"custody/stamps/{size}") == b"", "what came later is not covered"
    client = stamped.organisation.app.test_client()
    for path in (
        "custody/stamp/1000000/clock.tsr", f"custody/stamp/{size}/other.tsr", "none/stamps/0",
        f"custody/stamp/{size}/clock.key", f"custody/stamps/{10**30}", f"custody/stamp/{10**30}/checkpoint",
        "custody/stamp/0/..%2fcheckpoint", f"custody/stamp/{size}/.tsr", "custody/stamps/-1",
    ):  # fmt: skip
        assert client.get(f"/log/{path}").status_code == 404, path


@on_both
def test_an_authority_is_asked_once_in_a_round_and_not_when_somebody_comes(
    stamped: Stamped,
) -> None:
    stamped.grow()
    assert stamped.round() == 2
    first = stamped.sizes()
    for _ in range(3):
        stamped.grow()
        assert stamped.round() == 0
    assert len(stamped.server.asked) == 2
    # At the beginning of the next day all that came meanwhile is stamped at once, and a log that is as it was is not.
    stamped.organisation.clock.turn(days=1)
    assert stamped.round() == 1
    assert len(stamped.server.asked) == 3
    second = stamped.sizes()[-1]
    assert second > first[0]
    assert stamped.fetched("custody", first[0])[0] == second
    assert stamped.fetched("custody", 0)[0] == first[0], "the earliest counts"
    # Nothing came at the beginning of a round: what comes in its midst waits for the next.
    stamped.organisation.clock.turn(days=1)
    assert stamped.round() == 0
    stamped.grow()
    assert stamped.round() == 0
    assert len(stamped.server.asked) == 3
    # An operator may want one now.
    assert maintain(stamped.services, stamp_now=True).done["checkpoints_stamped"] == 1
    assert maintain(stamped.services, stamp_now=True).done["checkpoints_stamped"] == 0
    assert len(stamped.sizes()) == 3


def test_a_round_that_another_process_began_stays_as_it_is(stamped: Stamped) -> None:
    stamped.grow()
    stamped.round()
    number = stamping.round_number(stamped.organisation.clock(), 24)
    before = stamped.sizes()
    stamped.grow()
    for anew, more in ((False, 0), (True, 1)):
        with stamped.services.database.transaction() as session:
            stamping.begin(
                session, stamped.key(), "clock", number, stamped.services.today(), anew=anew
            )
        assert stamped.round() == more
    assert len(stamped.sizes()) == len(before) + 1


@pytest.mark.parametrize(("hours", "rounds"), [(24, 1), (6, 4), (1, 24)])
def test_rounds_divide_the_day(hours: int, rounds: int) -> None:
    from datetime import UTC, datetime

    day = [datetime(2026, 11, 26, hour, 30, tzinfo=UTC) for hour in range(24)]
    assert len({stamping.round_number(one, hours) for one in day}) == rounds


def stranger(stamped: Stamped, **options: object) -> Authority:
    return Authority(stamped.organisation.folder / "stranger", **options)  # type: ignore[arg-type]


WRONG = {
    "timestamp-other-hash": lambda stamped, _query: stamped.authority.stamp(b"something else"),
    "timestamp-other-nonce": lambda stamped, query: stamped.authority.reply(other_request(query)),
    "timestamp-untrusted": lambda stamped, query: stranger(stamped).reply(query),
    "timestamp-refused": lambda stamped, _query: stamped.authority.reply(b"?"),
    "timestamp-invalid": lambda _stamped, _query: b"<html>",
}


def other_request(query: bytes) -> bytes:
    """Return a request about the same hash with another nonce."""
    changed = bytearray(query)
    # version, imprint, then the nonce, an INTEGER of eight or nine bytes before the flag of certificates.
    changed[-6] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("slug", WRONG)
def test_a_stamp_that_does_not_hold_is_refused_by_name_and_the_log_goes_on(
    stamped: Stamped, slug: str, capsys: Captured
) -> None:
    if slug == "timestamp-untrusted":
        other = stranger(stamped)
        stamped.server.answer = other.reply
    else:
        stamped.server.answer = lambda query: WRONG[slug](stamped, query)
    refused_and_gone_on(stamped, slug, capsys)


def refused_and_gone_on(stamped: Stamped, slug: str, capsys: Captured) -> None:
    stamped.grow()
    capsys.readouterr()
    assert stamped.round() == 0
    said = "".join(capsys.readouterr())
    assert said.count(slug) == 2, said
    assert "127.0.0.1" not in said
    assert "clock" not in said
    assert stamped.sizes() == []
    assert stamped.get("custody/stamps/0") == b""
    # The log goes on, and once the authority does as it must, what it owes comes.
    stamped.grow()
    stamped.server.answer, stamped.server.status = stamped.authority.reply, 200
    assert stamped.round() == 2
    stamped.fetched("custody", 0)


@pytest.mark.parametrize("status", [204, 404, 500, 503])
def test_an_authority_that_answers_with_a_fault_is_passed_over(
    stamped: Stamped, status: int, capsys: Captured
) -> None:
    stamped.server.status = status
    slug = "timestamp-unreachable" if status in {500, 503} else "timestamp-bad-answer"
    refused_and_gone_on(stamped, slug, capsys)


def test_an_answer_has_a_size(stamped: Stamped, capsys: Captured) -> None:
    stamped.server.answer = lambda _query: bytes(LIMIT_BYTES + 1)
    refused_and_gone_on(stamped, "timestamp-bad-answer", capsys)


def test_an_expired_chain_is_refused(stamped: Stamped, capsys: Captured) -> None:
    late = stranger(stamped, own_days=(-10, -1))
    stamped.services = stamped_by(stamped.services, {"clock": (stamped.server, late)})
    stamped.server.answer = late.reply
    stamped.grow()
    capsys.readouterr()
    assert stamped.round() == 0
    assert "".join(capsys.readouterr()).count("timestamp-expired") == 2
    assert stamped.sizes() == []


def test_a_clock_that_is_wrong_by_hours_is_not_believed(
    stamped: Stamped, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamping, "CLOCKS_SECONDS", -1)
    stamped.grow()
    assert stamped.round() == 0
    assert "".join(capsys.readouterr()).count("timestamp-wrong-clock") == 2
    assert stamped.sizes() == []


def test_an_authority_that_times_out_holds_nothing_up(
    stamped: Stamped, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamping, "SILENCE_SECONDS", 0.3)
    end, came = threading.Event(), threading.Event()

    def hang(query: bytes) -> bytes:
        came.set()
        end.wait(60)
        return stamped.authority.reply(query)

    stamped.server.answer = hang
    stamped.grow()
    try:
        with ThreadPoolExecutor(1) as beside:
            asking = beside.submit(stamped.round)
            assert came.wait(30)
            # While it is being waited for, testimonies arrive and the log grows.
            stamped.grow()
            assert asking.result() == 0
    finally:
        end.set()
    assert "".join(capsys.readouterr()).count("timestamp-unreachable") == 2
    assert stamped.sizes() == []
    # OpenSSL may need longer than that on a busy machine.
    monkeypatch.undo()
    stamped.server.answer = stamped.authority.reply
    assert stamped.round() == 2


def test_an_answer_that_drips_ends(stamped: Stamped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamping, "ANSWER_SECONDS", -1.0)
    authority = stamping.read_authority(stamped.services.config, "clock")
    with pytest.raises(stamping.StampFailed) as failed:
        stamping.ask(authority, b"x")
    assert failed.value.slug == "timestamp-unreachable"


@on_both
def test_two_processes_keep_one_stamp(stamped: Stamped) -> None:
    stamped.grow()
    with ThreadPoolExecutor(4) as beside:
        kept = [one.result() for one in [beside.submit(tried, stamped) for _ in range(4)]]
    stamped.round()
    assert sum(kept) <= 2
    assert (len(stamped.sizes()), len(stamped.sizes("directory"))) == (1, 1)
    stamped.fetched("custody", 0)
    stamped.fetched("directory", 0)


def tried(stamped: Stamped) -> int:
    from sqlalchemy.exc import IntegrityError

    try:
        return stamped.round()
    except IntegrityError:
        # Another began the round in this moment; the service tries again a moment later.
        return 0


@on_both
def test_of_several_authorities_each_stamps_for_itself(stamped: Stamped, tmp_path: Path) -> None:
    second = Authority(tmp_path / "second", name="Another Clock")
    with serving(second.reply) as server:
        server.status = 503
        both = {"clock": (stamped.server, stamped.authority), "another": (server, second)}
        stamped.services = stamped_by(stamped.services, both)
        stamped.grow()
        assert stamped.round() == 2
        first = stamped.sizes()[0]
        assert stamped.get("custody/stamps/0").decode() == f"{first} clock\n"
        server.status = 200
        stamped.organisation.clock.turn(days=1)
        stamped.grow()
        assert stamped.round() == 1 + 2
        later = stamped.sizes()[-1]
        assert stamped.get("custody/stamps/0").decode() == f"{first} clock\n{later} another\n"
        assert (
            stamped.get(f"custody/stamps/{first}").decode() == f"{later} another\n{later} clock\n"
        )


@on_both
def test_the_doctor_and_maintenance_tell_of_stamps_that_are_owed(stamped: Stamped) -> None:
    def said() -> tuple[bool, bool, str]:
        config = stamped.services.config
        (check,) = [one for one in examine(config) if one.name == "time stamps"]
        return check.ok, check.warning, check.detail

    def needs() -> list[tuple[int, tuple[str, ...]]]:
        report = maintain(stamped.services)
        return [(x.count, x.about) for x in report.needs_a_person if x.kind == "time-stamps-late"]

    stamped.server.status = 503
    stamped.grow()
    assert needs() == []
    assert said() == (True, False, "clock gave what was asked for")
    # Both look at the real day, maintenance at the organisation's.
    with stamped.services.database.transaction() as session:
        session.execute(sa.update(StampingRound).values(owed_since=stamping.date(2020, 1, 1)))
    assert needs() == [(1, ("clock",))]
    assert said() == (True, True, "clock owes a stamp since yesterday or longer.")
    # A later round does not make it younger.
    stamped.organisation.clock.turn(days=1)
    stamped.grow()
    assert needs() == [(1, ("clock",))]
    stamped.server.status = 200
    assert needs() == []
    assert said()[1] is False
    # An authority that is not asked any more owes nothing.
    (stamped.services.config.timestamp_certificates / "clock.pem").unlink()
    assert said() == (
        False, False,
        "The certificates of an authority cannot be read or hold no root (AMANA_TIMESTAMP_CERTIFICATES).",
    )  # fmt: skip
    config = replace(stamped.services.config, timestamp_authorities={})
    stamped.services = replace(stamped.services, config=config)
    assert said() == (True, False, "no authority is asked")
    assert stamp(stamped.services) == 0


def test_certificates_that_cannot_be_used_are_told_by_name(
    stamped: Stamped, capsys: Captured
) -> None:
    place = stamped.services.config.timestamp_certificates / "clock.pem"
    stamped.grow()
    for content in (None, b"", (stamped.authority.folder / "middle.pem").read_bytes()):
        place.unlink() if content is None else place.write_bytes(content)
        assert stamped.round() == 0
        assert "".join(capsys.readouterr()).count("timestamp-certificates") == 2
    assert stamped.server.asked == []
    # With what stands between beside the root, an authority may leave it out of its answers.
    bare = stranger(stamped, embedded=())
    stamped.server.answer = bare.reply
    both = (bare.folder / "root.pem").read_bytes() + (bare.folder / "middle.pem").read_bytes()
    place.write_bytes(both)
    assert stamped.round() == 2


def test_an_authority_is_reached_through_its_proxy_and_not_beside_it(
    stamped: Stamped, capsys: Captured
) -> None:
    stamped.grow()
    with socks_server({"tsa.example": ("127.0.0.1", stamped.server.port)}) as proxy:
        config = replace(
            stamped.services.config,
            timestamp_authorities={"clock": "http://tsa.example/tsr"},
            timestamp_proxy=proxy.url,
        )
        stamped.services = replace(stamped.services, config=config)
        assert stamped.round() == 2
    stamped.organisation.clock.turn(days=1)
    stamped.grow()
    assert stamped.round() == 0
    assert "timestamp-unreachable" in "".join(capsys.readouterr())


def test_lost_files_of_stamps_are_made_anew(stamped: Stamped) -> None:
    stamped.grow()
    assert stamped.round() == 2
    (size,) = stamped.sizes()
    blobs = stamped.services.blobs
    before = stamped.fetched("custody", 0)
    blobs.delete_files(f"log/custody/stamp/{size}")
    client = stamped.organisation.app.test_client()
    assert client.get(f"/log/custody/stamp/{size}/clock.tsr").status_code == 404
    assert recover_log(stamped.services, "custody").files == 3
    assert stamped.fetched("custody", 0) == before
    assert recover_log(stamped.services, "custody").files == 0


def test_a_stamp_holds_whoever_cosigned_since(stamped: Stamped) -> None:
    from amana.protocol.checkpoint import cosign, parse_note, with_signatures
    from amana.protocol.signing import SigningKey
    from amana.protocol.timestamp import stamped_bytes

    stamped.grow()
    stamped.round()
    (size,) = stamped.sizes()
    note = parse_note(stamped.get("custody/checkpoint"))
    more = cosign("one.example/1", SigningKey.generate(), note.text, 1_800_000_000)
    cosigned = with_signatures(note, [more])
    assert stamped_bytes(cosigned, stamped.key()) == stamped.get(f"custody/stamp/{size}/checkpoint")


def test_settings_name_authorities(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert read_config(tmp_path).timestamp_authorities == {}
    assert read_config(tmp_path).timestamp_certificates == tmp_path / "authorities"
    assert read_config(tmp_path).timestamp_hours == 24
    monkeypatch.setenv("AMANA_TIMESTAMP_AUTHORITIES", "free=https://one/tsr,b-2=http://b?x=y")
    assert read_config(tmp_path).timestamp_authorities == {
        "free": "https://one/tsr",
        "b-2": "http://b?x=y",
    }
    for bad in ("one", "=https://one", "a=b,a=c", "A=b", "../a=b", "a.b=c", "a=1,b=1,c=1,d=1,e=1"):
        monkeypatch.setenv("AMANA_TIMESTAMP_AUTHORITIES", bad)
        with pytest.raises(ConfigInvalid, match="AMANA_TIMESTAMP_AUTHORITIES"):
            read_config(tmp_path)


def test_an_address_that_is_none_is_a_failure_and_no_more(
    stamped: Stamped, capsys: Captured
) -> None:
    stamped.grow()
    for url in ("nonsense", "ftp://a/b", "http://[", "http://127.0.0.1:1/x", ""):
        config = replace(stamped.services.config, timestamp_authorities={"clock": url})
        stamped.services = replace(stamped.services, config=config)
        assert stamped.round() == 0
        assert "".join(capsys.readouterr()).count("timestamp-unreachable") == 2, url


def test_requests_are_about_the_hash_alone(stamped: Stamped) -> None:
    stamped.grow()
    stamped.round()
    assert len(make_request(b"x").content) >= max(map(len, stamped.server.asked)) - 1
    assert {len(one) for one in stamped.server.asked} <= {69, 70, 71}
