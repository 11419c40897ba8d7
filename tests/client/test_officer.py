"""The officers' ceremony: what is proposed, what a signature vouches for, and what is carried between machines."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from tuf.api.metadata import Metadata, Root

from amana.client.directory import check_root, fetch_directory, read_root
from amana.client.errors import ClientError, NotVerified, Usage
from amana.client.keyfile import PersonKeys, intake_key_fields
from amana.client.officer import (
    Proposal,
    Version,
    check_current_root,
    describe,
    new_root,
    next_origin,
    online_keys,
    pins,
    propose,
    read_published,
    rotate_root,
    sign,
    tuf_key,
)
from amana.protocol.directory import fingerprint, parse_directory
from amana.protocol.encoding import canonical, sha256_hex, unb64
from amana.protocol.signing import SigningKey
from tests.support.ceremony import DEPLOYMENT, Ceremony, Mirror, desk, reader


@pytest.fixture(scope="module")
def ceremony() -> Ceremony:
    return Ceremony()


def first(ceremony: Ceremony) -> Proposal:
    """Return an unsigned first version with its root."""
    proposal = ceremony.proposal(signers=[])
    proposal.root = ceremony.root(datetime.now(UTC))
    return proposal


def test_a_proposal_goes_from_officer_to_officer_and_is_accepted_by_clients(
    ceremony: Ceremony, tmp_path: Path
) -> None:
    first(ceremony).save(tmp_path / "proposal")
    for officer in ceremony.officers[1:]:
        carried = Proposal.load(tmp_path / "proposal")
        assert sign(carried, officer) == ["directory", "root"]
        carried.save(tmp_path / "proposal")
    done = Proposal.load(tmp_path / "proposal")
    assert done.root is not None
    root = done.root.to_bytes()
    assert read_root(root).deployment == DEPLOYMENT
    mirror = Mirror(ceremony)
    mirror.files["1.root.json"] = root
    mirror.show(done)
    assert fetch_directory(mirror.get, root, None).directory.version == 1


def test_a_bundle_holds_the_signed_bytes(ceremony: Ceremony) -> None:
    proposal = first(ceremony)
    for officer in ceremony.officers[:2]:
        sign(proposal, officer)
    bundle = proposal.bundle()
    assert set(bundle["metadata"]) == {"1.targets.json", "1.root.json"}
    parse_directory({name: unb64(content) for name, content in bundle["targets"].items()})
    for name, content in bundle["targets"].items():
        info = proposal.targets.signed.targets[name]
        assert info.hashes == {"sha256": sha256_hex(unb64(content))}
    root = Metadata[Root].from_bytes(unb64(bundle["metadata"]["1.root.json"]))
    assert len(root.signatures) == 2


def test_the_same_officer_signing_twice_counts_once(ceremony: Ceremony) -> None:
    proposal = first(ceremony)
    for _ in range(3):
        sign(proposal, ceremony.officers[0])
    assert len(proposal.targets.signatures) == 1
    assert proposal.root is not None
    assert len(proposal.root.signatures) == 1


def test_who_is_no_officer_of_the_root_cannot_sign_it(ceremony: Ceremony) -> None:
    proposal = first(ceremony)
    with pytest.raises(Usage) as refused:
        sign(proposal, PersonKeys.generate("officer"))
    assert refused.value.slug == "not-an-officer"
    assert not proposal.targets.signatures


def test_what_is_signed_is_said_in_words(ceremony: Ceremony) -> None:
    said = "\n".join(first(ceremony).summary())
    expires = datetime.now(UTC) + timedelta(days=45)
    assert f"directory of {DEPLOYMENT}, version 1, until {expires:%Y-%m-%d}" in said
    assert f"root of {DEPLOYMENT}, version 1" in said
    assert "root: 2 of 3 officers" in said
    assert "targets: 2 of 3 officers" in said
    assert "timestamp: 1 of 1 server keys" in said
    # What each key may do is said, so that one cannot slip in under another part.
    for officer in ceremony.officers:
        assert said.count(f"signed by {officer.signing.public}") == 2
    assert said.count(f"signed by {ceremony.online.public}") == 2
    entry = reader(ceremony.lead)
    public = {name: entry[name] for name in ("id", "signing_key", "intake_key", "intake_key_sig")}
    words = fingerprint(public)
    assert (
        f"lead, reviewer {ceremony.lead.id}, takes minor, sexual_violence, fingerprint {words}"
        in said
    )
    for one in (ceremony.administrator, ceremony.custodian):
        public = {"id": one.id, "signing_key": one.signing.public}
        if one.intake is not None:
            public |= intake_key_fields(one)
        [line] = [line for line in said.splitlines() if f"{one.role} {one.id}" in line]
        assert line.endswith(f"fingerprint {fingerprint(public)}")
    assert "custodians: 1 of 1" in said
    assert f"consent text c1.en: {sha256_hex(b'I agree')}" in said


def test_a_proposal_cannot_steer_the_terminal(ceremony: Ceremony) -> None:
    proposal = ceremony.proposal(signers=[], deployment="a\x1b[2J\u202e\nb")
    assert all(line.isprintable() for line in proposal.summary())


def test_a_root_pins_the_servers_keys_and_names_its_logs_after_the_deployment() -> None:
    online, directory_log, custody_log = (SigningKey.generate() for _ in range(3))
    pinned = pins("amana-here", online_keys(online, directory_log, custody_log))
    assert pinned["custody_log"] == {"origin": "amana-here/custody", "key": custody_log.public}
    assert pinned["directory_log"] == {
        "origin": "amana-here/directory",
        "key": directory_log.public,
    }
    for deployment in ("amana here", "amana+here", "amana\nhere"):
        with pytest.raises(Usage):
            pins(deployment, online_keys(online, directory_log, custody_log))


def make_root(ceremony: Ceremony, **changes: Any) -> Metadata[Root]:
    given: dict[str, Any] = {
        "officers": [one.signing.public for one in ceremony.officers],
        "root_threshold": 2,
        "targets_threshold": 2,
    }
    given |= changes
    keys = online_keys(ceremony.online, ceremony.directory_log, ceremony.custody_log)
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    return new_root(
        given.pop("officers"),
        online=keys["online"],
        pins=pins(DEPLOYMENT, keys),
        now=now,
        **given,
    )


def test_officers_sign_what_lasts_and_the_server_what_is_fresh(ceremony: Ceremony) -> None:
    root = make_root(ceremony, root_threshold=3).signed
    officers = {tuf_key(one.signing.public).keyid for one in ceremony.officers}
    online = {tuf_key(ceremony.online.public).keyid}
    assert set(root.roles["root"].keyids) == set(root.roles["targets"].keyids) == officers
    assert set(root.roles["snapshot"].keyids) == set(root.roles["timestamp"].keyids) == online
    assert (root.roles["root"].threshold, root.roles["targets"].threshold) == (3, 2)
    assert root.consistent_snapshot is True
    assert root.expires == datetime(2027, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "changes",
    [
        {"root_threshold": 0},
        {"root_threshold": 4},
        {"targets_threshold": 4},
        {"officers": []},
    ],
)
def test_a_threshold_that_nobody_can_reach_is_refused(
    ceremony: Ceremony, changes: dict[str, Any]
) -> None:
    with pytest.raises(Usage):
        make_root(ceremony, **changes)


def test_an_officer_who_is_named_twice_is_refused(ceremony: Ceremony) -> None:
    public = ceremony.officers[0].signing.public
    with pytest.raises(Usage):
        make_root(ceremony, officers=[public, public])


@pytest.mark.parametrize("days", [0, 46, 365])
def test_a_validity_that_everybody_would_refuse_is_not_proposed(
    ceremony: Ceremony, days: int
) -> None:
    with pytest.raises(Usage):
        ceremony.proposal(days=days)


@pytest.mark.parametrize(
    "description",
    [
        {},
        [],
        {"desks": [{}]},
        {"desks": [1], "people": []},
        {"desks": [{"id": "chemical"}], "people": []},
        {"desks": [], "people": []},
    ],
)
def test_a_description_that_lacks_a_part_is_refused(description: Any) -> None:
    with pytest.raises(Usage) as refused:
        propose(description, version=1, now=datetime.now(UTC))
    assert refused.value.slug == "directory-invalid"


def test_seventeen_readers_are_not_proposed(ceremony: Ceremony) -> None:
    crowd = [reader(PersonKeys.generate("reviewer")) for _ in range(17)]
    with pytest.raises(Usage) as refused:
        ceremony.proposal(desks=[desk("chemical", crowd)])
    assert refused.value.slug == "directory-invalid"


def _replace_a_part(folder: Path) -> None:
    path = folder / "targets" / "people.json"
    people = json.loads(path.read_bytes())
    people["people"].pop()
    path.write_bytes(canonical(people))


def _remove_a_part(folder: Path) -> None:
    (folder / "targets" / "desks" / "general.json").unlink()


def _cut_the_list(folder: Path) -> None:
    path = folder / "targets.json"
    path.write_bytes(path.read_bytes()[:-10])


def _swap_list_and_root(folder: Path) -> None:
    (folder / "targets.json").write_bytes((folder / "root.json").read_bytes())


def _put_the_list_for_the_root(folder: Path) -> None:
    (folder / "root.json").write_bytes((folder / "targets.json").read_bytes())


def _edit_list(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        metadata = json.loads((folder / "targets.json").read_bytes())
        change(metadata["signed"])
        (folder / "targets.json").write_text(json.dumps(metadata))

    return edit


def _enlarge(folder: Path) -> None:
    (folder / "targets" / "people.json").write_bytes(b" " * (2**20 + 1))


@pytest.mark.parametrize(
    "change",
    [
        _replace_a_part,
        _remove_a_part,
        _cut_the_list,
        _swap_list_and_root,
        _put_the_list_for_the_root,
        _enlarge,
        _edit_list(lambda signed: signed.update(version=2)),
        _edit_list(lambda signed: signed.update(expires="2046-01-01T00:00:00Z")),
        _edit_list(lambda signed: signed["targets"].pop("people.json")),
        _edit_list(
            lambda signed: signed["targets"].update({"../x": signed["targets"]["people.json"]})
        ),
    ],
)
def test_a_proposal_that_was_changed_on_the_way_is_not_signed(
    ceremony: Ceremony, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    first(ceremony).save(tmp_path)
    Proposal.load(tmp_path)
    change(tmp_path)
    with pytest.raises(ClientError):
        Proposal.load(tmp_path)


def test_a_proposal_of_another_deployment_than_its_root_is_refused(
    ceremony: Ceremony, tmp_path: Path
) -> None:
    proposal = first(ceremony)
    proposal.root = ceremony.root(datetime.now(UTC), deployment="amana-elsewhere")
    proposal.save(tmp_path)
    with pytest.raises(NotVerified) as refused:
        Proposal.load(tmp_path)
    assert refused.value.slug == "directory-invalid"


def test_a_proposal_that_lay_too_long_is_refused(ceremony: Ceremony, tmp_path: Path) -> None:
    first(ceremony).save(tmp_path)
    with (
        time_machine.travel(datetime.now(UTC) + timedelta(days=46), tick=False),
        pytest.raises(NotVerified) as refused,
    ):
        Proposal.load(tmp_path)
    assert refused.value.slug == "directory-expired"


def test_a_folder_that_cannot_be_written_is_a_matter_of_usage(
    ceremony: Ceremony, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Usage):
        first(ceremony).save(tmp_path / "file")


# Rotation of the root


def rotation(ceremony: Ceremony, **changes: Any) -> Proposal:
    """Return an unsigned second version under an unsigned second root."""
    root = rotate_root(ceremony.first_root.signed, now=datetime.now(UTC), **changes)
    proposal = ceremony.proposal(2, signers=[])
    return Proposal(proposal.targets, proposal.files, root, before(ceremony))


def before(ceremony: Ceremony, version: int = 1) -> Version:
    """Return a version that two officers signed under the first root."""
    signed = ceremony.proposal(version)
    return Version(signed.files, signed.targets, ceremony.first_root)


def publics(*officers: PersonKeys) -> list[str]:
    return [one.signing.public for one in officers]


def shown(ceremony: Ceremony, proposal: Proposal) -> Mirror:
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(1))
    assert proposal.root is not None
    mirror.files["2.root.json"] = proposal.root.to_bytes()
    mirror.show(proposal)
    return mirror


def test_the_others_replace_an_officer_who_lost_the_key(ceremony: Ceremony, tmp_path: Path) -> None:
    lost, *others = ceremony.officers
    newcomer = PersonKeys.generate("officer")
    proposal = rotation(ceremony, drop=publics(lost), add=publics(newcomer))
    for officer in others:
        proposal.save(tmp_path)
        proposal = Proposal.load(tmp_path)
        assert any(one.missing for one in proposal.signatures())
        assert sign(proposal, officer) == ["directory", "root"]
    assert not any(one.missing for one in proposal.signatures())
    mirror = shown(ceremony, proposal)
    assert fetch_directory(mirror.get, ceremony.root_bytes, None).directory.version == 2
    mirror.show(ceremony.proposal(3, signers=[others[0], newcomer]))
    assert fetch_directory(mirror.get, ceremony.root_bytes, None).directory.version == 3
    mirror.show(ceremony.proposal(4, signers=[others[0], lost]))
    with pytest.raises(NotVerified) as refused:
        fetch_directory(mirror.get, ceremony.root_bytes, None)
    assert refused.value.slug == "directory-threshold"


def test_an_officer_who_goes_signs_the_root_and_nothing_else(ceremony: Ceremony) -> None:
    proposal = rotation(ceremony, drop=publics(ceremony.officers[0]), targets_threshold=1)
    assert sign(proposal, ceremony.officers[0]) == ["root"]
    assert not proposal.targets.signatures
    assert list(map(str, proposal.signatures())) == [
        "directory: 0 of 1 signatures",
        "root: 0 of 2 signatures",
        "root, by the officers before: 1 of 2 signatures",
    ]


def test_newcomers_alone_cannot_take_over(ceremony: Ceremony) -> None:
    intruders = [PersonKeys.generate("officer") for _ in range(2)]
    proposal = rotation(ceremony, add=publics(*intruders))
    for officer in (*intruders, ceremony.officers[0]):
        sign(proposal, officer)
    assert [one.missing for one in proposal.signatures()] == [0, 0, 1]
    with pytest.raises(NotVerified) as refused:
        fetch_directory(shown(ceremony, proposal).get, ceremony.root_bytes, None)
    assert refused.value.slug == "directory-threshold"


def test_a_root_is_renewed_and_the_one_before_stays_as_it_was(ceremony: Ceremony) -> None:
    before = ceremony.root_bytes
    later = datetime.now(UTC) + timedelta(days=300)
    root = rotate_root(
        ceremony.first_root.signed,
        drop=publics(ceremony.officers[0]),
        add=publics(PersonKeys.generate("officer")),
        root_threshold=3,
        now=later,
    ).signed
    assert (root.version, root.roles["root"].threshold, root.roles["targets"].threshold) == (
        2,
        3,
        2,
    )
    assert (root.expires - later).days >= 364
    assert ceremony.first_root.to_bytes() == before


@pytest.mark.parametrize(
    ("changes", "slug"),
    [
        (lambda _: {"drop": [SigningKey.generate().public]}, "not-an-officer"),
        (lambda c: {"drop": [c.online.public]}, "not-an-officer"),
        (lambda c: {"add": publics(c.officers[0])}, "key-known"),
        (lambda c: {"add": [c.online.public]}, "key-known"),
        (lambda c: {"add": [c.custody_log.public]}, "key-known"),
        (lambda c: {"drop": publics(*c.officers[:2])}, "bad-threshold"),
        (lambda _: {"root_threshold": 4}, "bad-threshold"),
    ],
)
def test_a_rotation_that_cannot_work_is_refused(
    ceremony: Ceremony, changes: Callable[[Ceremony], dict[str, Any]], slug: str
) -> None:
    with pytest.raises(Usage) as refused:
        rotation(ceremony, **changes(ceremony))
    assert refused.value.slug == slug


def test_the_servers_key_is_no_officers_in_the_first_root(ceremony: Ceremony) -> None:
    with pytest.raises(Usage) as refused:
        make_root(ceremony, officers=[*publics(*ceremony.officers), ceremony.online.public])
    assert refused.value.slug == "key-known"


def test_a_person_of_the_directory_does_not_become_an_officer(ceremony: Ceremony) -> None:
    proposal = rotation(ceremony, add=publics(ceremony.administrator))
    with pytest.raises(NotVerified) as refused:
        proposal.check(datetime.now(UTC))
    assert refused.value.slug == "directory-invalid"


def test_a_server_that_lost_its_keys_gets_new_ones(ceremony: Ceremony) -> None:
    new = [SigningKey.generate() for _ in range(3)]
    proposal = rotation(ceremony, online=online_keys(*new))
    for officer in ceremony.officers[:2]:
        sign(proposal, officer)
    mirror = shown(ceremony, proposal)
    with pytest.raises(NotVerified) as refused:
        fetch_directory(mirror.get, ceremony.root_bytes, None)
    assert refused.value.slug == "directory-threshold"
    mirror.ceremony = replace(ceremony, online=new[0])
    mirror.point_to(2)
    pinned = fetch_directory(mirror.get, ceremony.root_bytes, None).pins
    assert (pinned.directory_log_key, pinned.custody_log_key) == (new[1].public, new[2].public)
    # Another key is another log.
    assert pinned.custody_log.name == f"{DEPLOYMENT}/custody-2"


def test_a_log_that_must_not_go_on_ends_and_another_begins_in_its_place(ceremony: Ceremony) -> None:
    proposal = rotation(ceremony, reopen=["custody"])
    assert f"custody log {DEPLOYMENT}/custody-2, key {ceremony.custody_log.public}" in "\n".join(
        proposal.summary()
    )
    for officer in ceremony.officers[:2]:
        sign(proposal, officer)
    mirror = shown(ceremony, proposal)
    pinned = fetch_directory(mirror.get, ceremony.root_bytes, None).pins
    assert pinned.custody_log.name == f"{DEPLOYMENT}/custody-2"
    assert pinned.custody_log.public == ceremony.custody_log.public
    assert pinned.directory_log.name == f"{DEPLOYMENT}/directory"


def test_logs_are_counted_on() -> None:
    assert next_origin("a-1/custody") == "a-1/custody-2"
    assert next_origin("a-1/custody-2") == "a-1/custody-3"
    assert next_origin("a/x-9") == "a/x-10"
    assert next_origin("a/x-y") == "a/x-y-2"


def test_keys_that_stay_keep_their_logs(ceremony: Ceremony) -> None:
    keys = online_keys(SigningKey.generate(), ceremony.directory_log, SigningKey.generate())
    root = rotate_root(
        ceremony.first_root.signed, online=keys, reopen=["custody"], now=datetime.now(UTC)
    )
    pinned = check_root(root.signed)
    assert pinned.directory_log.name == f"{DEPLOYMENT}/directory"
    assert pinned.custody_log.name == f"{DEPLOYMENT}/custody-2"


def test_a_directory_does_not_move_to_another_deployment_with_its_root(
    ceremony: Ceremony, tmp_path: Path
) -> None:
    proposal = rotation(ceremony)
    _rename(proposal)
    moved = ceremony.proposal(2, signers=[], deployment="amana-elsewhere")
    proposal.targets, proposal.files = moved.targets, moved.files
    proposal.save(tmp_path)
    with pytest.raises(NotVerified) as refused:
        Proposal.load(tmp_path)
    assert refused.value.slug == "directory-invalid"


def _skip_a_root(proposal: Proposal) -> None:
    assert proposal.root is not None
    proposal.root.signed.version = 3


def _rename(proposal: Proposal) -> None:
    assert proposal.root is not None
    proposal.root.signed.unrecognized_fields["x-amana"]["deployment"] = "amana-elsewhere"


def _exchange_the_current_root(proposal: Proposal) -> None:
    assert proposal.current is not None
    root = Metadata[Root].from_bytes(proposal.current.root.to_bytes())
    root.signed.roles["root"].threshold = 1
    proposal.current = proposal.current._replace(root=root)


@pytest.mark.parametrize("change", [_skip_a_root, _rename, _exchange_the_current_root])
def test_roots_that_do_not_belong_together_are_not_signed(
    ceremony: Ceremony, tmp_path: Path, change: Callable[[Proposal], None]
) -> None:
    proposal = rotation(ceremony)
    change(proposal)
    proposal.save(tmp_path)
    with pytest.raises(NotVerified):
        Proposal.load(tmp_path)


# The version before, which travels along


def following(ceremony: Ceremony) -> Proposal:
    """Return an unsigned second version, which carries the first."""
    proposal = ceremony.proposal(2, signers=[])
    proposal.current = before(ceremony)
    return proposal


def test_the_version_before_travels_with_a_proposal(ceremony: Ceremony, tmp_path: Path) -> None:
    proposal = following(ceremony)
    proposal.save(tmp_path)
    loaded = Proposal.load(tmp_path)
    assert loaded.current is not None
    assert proposal.current is not None
    assert loaded.current.files == proposal.current.files
    assert [str(one) for one in loaded.signatures()] == ["directory: 0 of 2 signatures"]


def _one_officer_signed(ceremony: Ceremony) -> Version:
    one = ceremony.proposal(1, signers=ceremony.officers[:1])
    return Version(one.files, one.targets, ceremony.first_root)


def _of_other_officers(ceremony: Ceremony) -> Version:
    return before(Ceremony())._replace(root=ceremony.first_root)


def _of_an_older_version(ceremony: Ceremony) -> Version:
    return before(ceremony, 3)


def _of_another_installation(ceremony: Ceremony) -> Version:
    other = ceremony.proposal(1, deployment="amana-elsewhere")
    return Version(other.files, other.targets, ceremony.first_root)


def _with_a_part_exchanged(ceremony: Ceremony) -> Version:
    other = ceremony.proposal(1, desks=[desk("chemical", [])])
    return before(ceremony)._replace(files=other.files)


@pytest.mark.parametrize(
    ("current", "slug"),
    [
        (_one_officer_signed, "directory-threshold"),
        (_of_other_officers, "directory-threshold"),
        (_of_an_older_version, "proposal-invalid"),
        (_of_another_installation, "proposal-invalid"),
        (_with_a_part_exchanged, "proposal-invalid"),
    ],
)
def test_a_proposal_is_read_beside_the_version_before_or_not_at_all(
    ceremony: Ceremony, tmp_path: Path, current: Callable[[Ceremony], Version], slug: str
) -> None:
    proposal = following(ceremony)
    proposal.current = current(ceremony)
    proposal.save(tmp_path)
    with pytest.raises(NotVerified) as refused:
        Proposal.load(tmp_path)
    assert refused.value.slug == slug


def test_the_root_in_force_is_judged_by_the_signers_own(ceremony: Ceremony) -> None:
    proposal = following(ceremony)
    check_current_root(proposal, ceremony.root_bytes)
    with pytest.raises(NotVerified) as refused:
        check_current_root(proposal, Ceremony().root_bytes)
    assert refused.value.slug == "other-root"
    rotated = rotation(ceremony)
    for officer in ceremony.officers[:2]:
        sign(rotated, officer)
    proposal.current = before(ceremony)._replace(root=rotated.root)
    check_current_root(proposal, ceremony.root_bytes)
    with pytest.raises(NotVerified) as refused:
        check_current_root(proposal, Ceremony().root_bytes)
    assert refused.value.slug == "directory-threshold"
    with pytest.raises(NotVerified) as refused:
        check_current_root(ceremony.proposal(2), ceremony.root_bytes)
    assert refused.value.slug == "root-missing"


# Starting from a version that was signed


def test_a_signed_folder_is_believed_by_the_trusted_root_alone(
    ceremony: Ceremony, tmp_path: Path
) -> None:
    ceremony.proposal(3).save(tmp_path / "signed")
    published = read_published(tmp_path / "signed", ceremony.root_bytes)
    assert published.directory.version == 3
    again = propose(describe(published.files), version=3, now=datetime.now(UTC))
    assert again.files == published.files

    ceremony.proposal(3, signers=ceremony.officers[:1]).save(tmp_path / "one")
    with pytest.raises(NotVerified) as refused:
        read_published(tmp_path / "one", ceremony.root_bytes)
    assert refused.value.slug == "directory-threshold"
    with pytest.raises(NotVerified) as refused:
        read_published(tmp_path / "signed", Ceremony().root_bytes)
    assert refused.value.slug == "directory-threshold"


def test_the_folder_of_a_rotation_leads_from_the_old_root_to_the_new(
    ceremony: Ceremony, tmp_path: Path
) -> None:
    proposal = rotation(ceremony, drop=publics(ceremony.officers[0]))
    for officer in ceremony.officers[1:]:
        sign(proposal, officer)
    proposal.save(tmp_path)
    assert read_published(tmp_path, ceremony.root_bytes).root.signed.version == 2
    assert proposal.root is not None
    proposal.root.signatures.pop(next(iter(proposal.root.signatures)))
    proposal.save(tmp_path)
    with pytest.raises(NotVerified) as refused:
        read_published(tmp_path, ceremony.root_bytes)
    assert refused.value.slug == "directory-threshold"


def test_what_expired_can_be_renewed_and_not_signed(ceremony: Ceremony, tmp_path: Path) -> None:
    ceremony.proposal(1).save(tmp_path)
    with time_machine.travel(datetime.now(UTC) + timedelta(days=60), tick=False):
        with pytest.raises(NotVerified):
            Proposal.load(tmp_path)
        assert read_published(tmp_path, ceremony.root_bytes).directory.version == 1
