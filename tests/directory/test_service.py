"""What the server publishes, on whose authority, and how it keeps it fresh."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Metadata, Root, Snapshot, Timestamp

from amana.client.directory import fetch_directory
from amana.client.errors import NotVerified
from amana.client.keyfile import PersonKeys
from amana.client.officer import Proposal, sign, tuf_key, tuf_signer
from amana.directory import service as directory
from amana.directory.models import DirectoryFile
from amana.errors import NotFound, Refusal
from amana.protocol.signing import SigningKey
from tests.directory.conftest import Server
from tests.support.ceremony import desk, reader


def refusal(server: Server, proposal: Proposal, **metadata: bytes) -> tuple[str, int]:
    """Return slug and status of a refusal, and check that nothing was stored."""
    before = names(server)
    with pytest.raises(Refusal) as refused:
        server.publish(proposal, **metadata)
    assert names(server) == before
    return refused.value.slug, refused.value.status


def names(server: Server) -> set[str]:
    with server.services.database.reading() as session:
        return set(session.scalars(sa.select(DirectoryFile.name)))


def current_version(server: Server) -> int:
    with server.services.database.reading() as session:
        return directory.current(session, server.services.caches).version


def refresh(server: Server) -> int:
    with server.services.database.transaction() as session:
        return directory.refresh(session, server.services.secrets.online, server.now)


def timestamp_of(server: Server) -> Timestamp:
    content = server.get("timestamp.json")
    assert content is not None
    return Metadata[Timestamp].from_bytes(content).signed


def test_without_a_directory_nobody_is_trusted(server: Server) -> None:
    with (
        server.services.database.reading() as session,
        pytest.raises(directory.NoDirectory) as refused,
    ):
        directory.current(session, {})
    assert refused.value.status == 503
    assert refresh(server) == 0


def test_what_two_officers_signed_is_published_and_verified_by_clients(server: Server) -> None:
    assert server.publish(server.ceremony.proposal()) == 1
    verified = fetch_directory(server.get, server.ceremony.root_bytes, None)
    assert verified.directory.version == 1
    with server.services.database.reading() as session:
        assert directory.current(session, {}) == verified.directory


def test_a_second_version_replaces_the_first_which_stays_known(server: Server) -> None:
    server.publish(server.ceremony.proposal())
    assert current_version(server) == 1
    newcomer = reader(PersonKeys.generate("reviewer"))
    second = server.ceremony.proposal(2, desks=[desk("chemical", [newcomer])])
    assert server.publish(second) == 2
    assert current_version(server) == 2
    verified = fetch_directory(server.get, server.ceremony.root_bytes, None).directory
    assert [one.id for one in verified.readers_of("chemical")] == [newcomer["id"]]
    with server.services.database.reading() as session:
        then = directory.at(session, 1, {})
        assert {one.id for one in then.readers_of("chemical")} == {
            server.ceremony.lead.id,
            server.ceremony.reviewer.id,
        }
        for version in (0, 3, 2**53):
            with pytest.raises(NotFound):
                directory.at(session, version, {})


def test_the_same_version_again_changes_nothing(server: Server) -> None:
    proposal = server.ceremony.proposal()
    server.publish(proposal)
    before = server.get("timestamp.json")
    assert server.publish(proposal) == 1
    assert server.get("timestamp.json") == before


def test_the_same_number_with_other_content_is_refused(server: Server) -> None:
    server.publish(server.ceremony.proposal())
    other = server.ceremony.proposal(desks=[])
    assert refusal(server, other) == ("directory-rollback", 409)


@pytest.mark.parametrize("version", [1, 4])
def test_a_version_that_is_not_the_next_is_refused(server: Server, version: int) -> None:
    server.publish(server.ceremony.proposal(1))
    server.publish(server.ceremony.proposal(2))
    skipped = server.ceremony.proposal(version, drop_bits=3)
    assert refusal(server, skipped) == ("directory-rollback", 409)


def test_one_officer_too_few_is_refused(server: Server) -> None:
    proposal = server.ceremony.proposal(signers=server.ceremony.officers[:1])
    assert refusal(server, proposal) == ("directory-threshold", 422)


def test_an_officer_who_signs_twice_counts_once(server: Server) -> None:
    first = server.ceremony.officers[0]
    proposal = server.ceremony.proposal(signers=[first, first])
    assert refusal(server, proposal)[0] == "directory-threshold"


def test_the_servers_own_key_is_no_officers(server: Server) -> None:
    proposal = server.ceremony.proposal(signers=server.ceremony.officers[:1])
    proposal.targets.sign(tuf_signer(server.services.secrets.online), append=True)
    assert refusal(server, proposal)[0] == "directory-threshold"


def test_an_expired_version_is_refused(server: Server) -> None:
    proposal = server.ceremony.proposal()
    server.turn(days=46)
    assert refusal(server, proposal) == ("directory-expired", 422)


def test_a_version_that_is_valid_for_too_long_is_refused(server: Server) -> None:
    longest = server.now + timedelta(days=46)
    proposal = server.ceremony.extend(server.ceremony.proposal(), longest)
    assert refusal(server, proposal)[0] == "directory-expired"


def test_an_expired_root_is_refused(server: Server) -> None:
    server.turn(days=366)
    assert refusal(server, server.ceremony.proposal(now=server.now))[0] == "root-expired"


def _change_a_part(proposal: Proposal) -> None:
    proposal.files["people.json"] = b'{"people":[],"v":1}'


def _drop_a_part(proposal: Proposal) -> None:
    del proposal.files["people.json"]


def _add_a_part(proposal: Proposal) -> None:
    proposal.files["more.json"] = b"{}"


@pytest.mark.parametrize(
    ("change", "slug"),
    [
        (_change_a_part, "directory-tampered"),
        (_drop_a_part, "directory-incomplete"),
        (_add_a_part, "directory-incomplete"),
    ],
)
def test_other_parts_than_were_signed_are_refused(
    server: Server, change: Callable[[Proposal], None], slug: str
) -> None:
    proposal = server.ceremony.proposal()
    change(proposal)
    assert refusal(server, proposal) == (slug, 422)


def test_another_deployment_is_refused(server: Server) -> None:
    elsewhere = server.ceremony.proposal(deployment="amana-elsewhere")
    assert refusal(server, elsewhere) == ("directory-invalid", 422)


def test_a_person_with_the_servers_key_is_refused(server: Server) -> None:
    people = server.ceremony.description()["people"]
    people[1]["signing_key"] = server.services.secrets.online.public
    assert refusal(server, server.ceremony.proposal(people=people))[0] == "directory-invalid"


def test_a_root_for_another_server_is_refused(server: Server) -> None:
    server.ceremony.online = SigningKey.generate()
    server.ceremony.__post_init__()
    server.services.config.root.write_bytes(server.ceremony.root_bytes)
    assert refusal(server, server.ceremony.proposal())[0] == "directory-tampered"


@pytest.mark.parametrize(
    "metadata",
    [
        {"1.targets.json": b"{}"},
        {"1.targets.json": b"[" * 9000},
        {"2.targets.json": b"{}"},
        {"2.root.json": b"{}"},
        {"timestamp.json": b"{}"},
        {"1.snapshot.json": b"{}"},
        {"../1.root.json": b"{}"},
    ],
)
def test_metadata_that_officers_do_not_sign_is_refused(
    server: Server, metadata: dict[str, bytes]
) -> None:
    assert refusal(server, server.ceremony.proposal(), **metadata)[1] == 422


def test_one_kind_of_metadata_does_not_pass_for_another(server: Server) -> None:
    proposal = server.ceremony.proposal()
    root = {"1.targets.json": server.ceremony.root_bytes}
    assert refusal(server, proposal, **root)[0] == "directory-tampered"
    second = server.ceremony.proposal(2)
    targets = {"2.root.json": second.targets.to_bytes()}
    assert refusal(server, proposal, **targets)[0] == "directory-tampered"


def next_root(
    server: Server, signers: list[PersonKeys], change: Callable[[Root], Any] = lambda _: None
) -> bytes:
    """Return the second root, signed by `signers`."""
    root = Metadata[Root].from_bytes(server.ceremony.root_bytes)
    root.signed.version = 2
    root.signatures.clear()
    change(root.signed)
    for officer in signers:
        root.sign(tuf_signer(officer.signing), append=True)
    return root.to_bytes()


def test_a_new_root_travels_with_the_version_that_its_officers_signed(server: Server) -> None:
    newcomer = PersonKeys.generate("officer")
    officers = server.ceremony.officers

    def replace_third(root: Root) -> None:
        for role in ("root", "targets"):
            root.revoke_key(tuf_key(officers[2].signing.public).keyid, role)
            root.add_key(tuf_key(newcomer.signing.public), role)

    server.publish(server.ceremony.proposal())
    root = next_root(server, officers[:2], replace_third)
    second = server.ceremony.proposal(2, signers=[officers[0], newcomer])
    assert server.publish(second, **{"2.root.json": root}) == 2
    assert fetch_directory(server.get, server.ceremony.root_bytes, None).directory.version == 2
    retired = server.ceremony.proposal(3, signers=officers[1:])
    assert refusal(server, retired)[0] == "directory-threshold"


def test_a_new_root_without_enough_officers_of_the_old_is_refused(server: Server) -> None:
    def lower(root: Root) -> None:
        root.roles["root"].threshold = 1

    root = next_root(server, server.ceremony.officers[:1], lower)
    proposal = server.ceremony.proposal()
    assert refusal(server, proposal, **{"2.root.json": root})[0] == "directory-threshold"


def test_a_new_root_that_its_own_officers_did_not_sign_is_refused(server: Server) -> None:
    def raise_threshold(root: Root) -> None:
        root.roles["root"].threshold = 3

    root = next_root(server, server.ceremony.officers[:2], raise_threshold)
    proposal = server.ceremony.proposal()
    assert refusal(server, proposal, **{"2.root.json": root})[0] == "directory-threshold"


def test_a_new_root_that_makes_the_server_an_officer_is_refused(server: Server) -> None:
    def let_the_server_vouch(root: Root) -> None:
        for role in ("root", "targets"):
            root.add_key(tuf_key(server.ceremony.online.public), role)

    root = next_root(server, server.ceremony.officers[:2], let_the_server_vouch)
    proposal = server.ceremony.proposal()
    assert refusal(server, proposal, **{"2.root.json": root})[0] == "directory-invalid"


def test_a_new_root_that_names_one_key_twice_is_refused(server: Server) -> None:
    def count_one_officer_twice(root: Root) -> None:
        first = tuf_key(server.ceremony.officers[0].signing.public)
        root.add_key(SSlibKey("a" * 64, first.keytype, first.scheme, first.keyval), "targets")

    root = next_root(server, server.ceremony.officers[:2], count_one_officer_twice)
    proposal = server.ceremony.proposal()
    assert refusal(server, proposal, **{"2.root.json": root})[0] == "directory-invalid"


def test_a_new_root_keeps_the_deployment(server: Server) -> None:
    def rename(root: Root) -> None:
        pinned = root.unrecognized_fields["x-amana"]
        pinned["deployment"] = "amana-elsewhere"
        for log in ("directory_log", "custody_log"):
            pinned[log]["origin"] = pinned[log]["origin"].replace("amana-test", "amana-elsewhere")

    root = next_root(server, server.ceremony.officers[:2], rename)
    proposal = server.ceremony.proposal(deployment="amana-elsewhere")
    assert refusal(server, proposal, **{"2.root.json": root})[0] == "directory-tampered"


def test_a_time_stamp_is_signed_anew_when_half_of_its_life_is_over(server: Server) -> None:
    server.publish(server.ceremony.proposal())
    first = timestamp_of(server)
    assert first.expires == server.now + timedelta(days=1)
    server.turn(hours=11, minutes=59)
    assert refresh(server) == 0
    assert timestamp_of(server) == first
    server.turn(minutes=1)
    second = timestamp_of(server)
    assert (second.version, second.expires) == (2, server.now + timedelta(days=1))
    # The snapshot is still young, so clients need not fetch another.
    assert second.snapshot_meta.version == 1
    assert refresh(server) == 0


def test_clients_verify_a_directory_that_is_served_for_weeks(server: Server) -> None:
    server.publish(server.ceremony.proposal())
    for _ in range(20):
        server.turn(days=2)
        with time_machine.travel(server.now, tick=False):
            verified = fetch_directory(server.get, server.ceremony.root_bytes, None)
        assert verified.directory.version == 1
    server.turn(days=6)
    with time_machine.travel(server.now, tick=False), pytest.raises(NotVerified) as refused:
        fetch_directory(server.get, server.ceremony.root_bytes, None)
    assert refused.value.slug == "directory-expired"


def test_old_snapshots_go_and_the_one_before_stays_for_who_fetches_now(server: Server) -> None:
    server.publish(server.ceremony.proposal())
    for _ in range(5):
        server.turn(days=4)
        assert refresh(server) == 1
    kept = {name for name in names(server) if name.endswith("snapshot.json")}
    assert kept == {"5.snapshot.json", "6.snapshot.json"}
    content = server.get("6.snapshot.json")
    assert content is not None
    signed = Metadata[Snapshot].from_bytes(content).signed
    assert signed.meta["targets.json"].version == 1


def test_two_who_refresh_at_once_sign_one_time_stamp(server: Server) -> None:
    server.publish(server.ceremony.proposal())
    server.turn(days=4)
    done: list[int] = []
    both = threading.Barrier(2)

    def work() -> None:
        both.wait()
        done.append(refresh(server))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [0, 1]
    assert timestamp_of(server).version == 2


@pytest.mark.parametrize("version", [1, 2])
def test_two_who_publish_at_once_leave_one_version(server: Server, version: int) -> None:
    if version == 2:
        server.publish(server.ceremony.proposal())
    proposals = [server.ceremony.proposal(version, drop_bits=bits) for bits in (1, 2)]
    outcomes: list[str] = []
    both = threading.Barrier(2)

    def work(proposal: Proposal) -> None:
        both.wait()
        try:
            outcomes.append(str(server.publish(proposal)))
        except Refusal as refused:
            outcomes.append(refused.slug)

    threads = [threading.Thread(target=work, args=(one,)) for one in proposals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [str(version), "directory-rollback"]
    verified = fetch_directory(server.get, server.ceremony.root_bytes, None).directory
    with server.services.database.reading() as session:
        assert directory.current(session, {}) == verified


def test_a_parsed_version_is_kept_and_one_query_tells_whether_it_is_the_newest(
    server: Server,
) -> None:
    server.publish(server.ceremony.proposal())
    cache: dict[str, Any] = {}
    with server.services.database.reading() as session:
        first = directory.current(session, cache)
    asked: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement != "BEGIN":
            asked.append(statement)

    engine = server.services.database.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        with server.services.database.reading() as session:
            assert directory.current(session, cache) is first
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
    assert len(asked) == 1


def test_whoever_changes_the_database_cannot_add_a_reader(server: Server) -> None:
    server.publish(server.ceremony.proposal())
    intruder = reader(PersonKeys.generate("reviewer"))
    forged = server.ceremony.proposal(2, signers=[], desks=[desk("chemical", [intruder])])
    sign(forged, server.ceremony.officers[0])
    with server.services.database.transaction() as session:
        for name, info in forged.targets.signed.targets.items():
            folder, slash, last = name.rpartition("/")
            path = f"targets/{folder}{slash}{info.hashes['sha256']}.{last}"
            session.merge(DirectoryFile(name=path, content=forged.files[name]))
        content = forged.targets.to_bytes()
        session.merge(DirectoryFile(name="1.targets.json", content=content))
    with pytest.raises(NotVerified):
        fetch_directory(server.get, server.ceremony.root_bytes, None)
