"""What a server that holds the online key can show a client, and what the client refuses."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from tuf.api.metadata import Metadata, Root, Targets

from amana.client.directory import fetch_directory, read_root
from amana.client.errors import NetworkFailed, NotVerified, Usage
from amana.client.keyfile import PersonKeys
from amana.client.officer import Proposal, sign, tuf_key, tuf_signer
from amana.protocol.encoding import canonical
from tests.support.ceremony import Ceremony, Mirror, desk, reader


@pytest.fixture(scope="module")
def ceremony() -> Ceremony:
    return Ceremony()


@pytest.fixture
def mirror(ceremony: Ceremony) -> Mirror:
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal())
    return mirror


def refusal(mirror: Mirror, cache: Path | None = None) -> str:
    """Return the slug with which a client refuses what the mirror shows."""
    with pytest.raises(NotVerified) as refused:
        fetch_directory(mirror.get, mirror.ceremony.root_bytes, cache)
    assert refused.value.exit_status == 3
    return refused.value.slug


def test_a_directory_that_enough_officers_signed_is_accepted(
    ceremony: Ceremony, mirror: Mirror
) -> None:
    verified = fetch_directory(mirror.get, ceremony.root_bytes, None)
    assert verified.directory.version == 1
    assert {one.id for one in verified.directory.readers_of("chemical")} == {
        ceremony.lead.id,
        ceremony.reviewer.id,
    }
    assert verified.pins.custody_log_key == ceremony.custody_log.public
    assert verified.pins.deployment == "amana-test"


def test_nothing_stays_on_the_device_without_a_cache(
    ceremony: Ceremony, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fetch_directory(mirror.get, ceremony.root_bytes, None)
    assert list(tmp_path.iterdir()) == []


def test_one_officer_too_few_is_refused(ceremony: Ceremony) -> None:
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(signers=ceremony.officers[:1]))
    assert refusal(mirror) == "directory-threshold"


def test_an_officer_who_signs_twice_counts_once(ceremony: Ceremony) -> None:
    first = ceremony.officers[0]
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(signers=[first, first]))
    assert refusal(mirror) == "directory-threshold"


def test_one_signature_listed_under_two_names_counts_once(ceremony: Ceremony) -> None:
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(signers=ceremony.officers[:1]))
    signed = json.loads(mirror.files["1.targets.json"])
    signature = dict(signed["signatures"][0])
    signature["keyid"] = tuf_key(ceremony.officers[1].signing.public).keyid
    signed["signatures"].append(signature)
    mirror.files["1.targets.json"] = json.dumps(signed).encode()
    assert refusal(mirror) == "directory-threshold"


def test_the_online_key_cannot_add_a_reader(ceremony: Ceremony, mirror: Mirror) -> None:
    intruder = reader(PersonKeys.generate("reviewer"))
    forged = ceremony.proposal(2, signers=[], desks=[desk("chemical", [intruder])])
    for key in (ceremony.online, ceremony.officers[0].signing):
        forged.targets.sign(tuf_signer(key), append=True)
    mirror.show(forged)
    assert refusal(mirror) == "directory-threshold"


def test_a_key_that_is_no_officers_cannot_help(ceremony: Ceremony) -> None:
    mirror = Mirror(ceremony)
    stranger = PersonKeys.generate("officer")
    mirror.show(ceremony.proposal(signers=[ceremony.officers[0], stranger]))
    assert refusal(mirror) == "directory-threshold"


@pytest.mark.parametrize("days", [46, 50])
def test_an_expired_directory_is_refused(mirror: Mirror, days: int) -> None:
    with time_machine.travel(datetime.now(UTC) + timedelta(days=days), tick=False):
        mirror.point_to(1)
        assert refusal(mirror) == "directory-expired"


def test_a_time_stamp_of_yesterday_is_refused(ceremony: Ceremony) -> None:
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(), now=datetime.now(UTC) - timedelta(days=2))
    assert refusal(mirror) == "directory-expired"


def test_a_directory_that_is_valid_for_too_long_is_refused(ceremony: Ceremony) -> None:
    mirror = Mirror(ceremony)
    longest = datetime.now(UTC) + timedelta(days=46)
    mirror.show(ceremony.extend(ceremony.proposal(), longest))
    assert refusal(mirror) == "directory-expired"


def test_an_expired_root_is_refused(ceremony: Ceremony, mirror: Mirror) -> None:
    later = datetime.now(UTC) + timedelta(days=366)
    with time_machine.travel(later, tick=False):
        mirror.show(ceremony.proposal(2))
        assert refusal(mirror) == "directory-expired"


def test_a_rollback_is_refused_over_runs(ceremony: Ceremony, tmp_path: Path) -> None:
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(1))
    old = dict(mirror.files)
    mirror.show(ceremony.proposal(2))
    assert (
        fetch_directory(mirror.get, ceremony.root_bytes, tmp_path / "cache").directory.version == 2
    )
    mirror.files = old
    assert refusal(mirror, tmp_path / "cache") == "directory-rollback"
    # Whoever comes for the first time cannot know.
    assert fetch_directory(mirror.get, ceremony.root_bytes, None).directory.version == 1


def test_a_fresh_time_stamp_does_not_hide_a_rollback(ceremony: Ceremony, tmp_path: Path) -> None:
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(1))
    mirror.show(ceremony.proposal(2))
    fetch_directory(mirror.get, ceremony.root_bytes, tmp_path)
    mirror.point_to(1)
    assert refusal(mirror, tmp_path) == "directory-rollback"


def test_a_list_under_another_versions_name_is_refused(ceremony: Ceremony) -> None:
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(1))
    mirror.show(ceremony.proposal(2))
    mirror.files["2.targets.json"] = mirror.files["1.targets.json"]
    assert refusal(mirror) == "directory-rollback"


def test_a_part_of_another_version_is_refused(ceremony: Ceremony) -> None:
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(1))
    other = Mirror(ceremony)
    other.show(ceremony.proposal(1, desks=[desk("chemical", [reader(ceremony.reviewer)])]))
    [part] = [name for name in mirror.files if name.endswith(".chemical.json")]
    [another] = [name for name in other.files if name.endswith(".chemical.json")]
    mirror.files[part] = other.files[another]
    assert refusal(mirror) == "directory-tampered"


def test_parts_that_officers_signed_together_by_mistake_are_refused(ceremony: Ceremony) -> None:
    signed = ceremony.proposal(2)
    proposal = Proposal(ceremony.proposal(1).targets, signed.files, None)
    proposal.targets.signed.targets = signed.targets.signed.targets
    proposal.targets.signatures.clear()
    for officer in ceremony.officers[:2]:
        sign(proposal, officer)
    mirror = Mirror(ceremony)
    mirror.show(proposal)
    assert refusal(mirror) == "directory-tampered"


def test_a_directory_of_another_installation_is_refused(ceremony: Ceremony) -> None:
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(deployment="amana-elsewhere"))
    assert refusal(mirror) == "directory-tampered"


def test_a_person_with_an_officers_key_is_refused(ceremony: Ceremony) -> None:
    officer = ceremony.officers[2]
    people = [
        {"id": officer.id, "roles": ["auditor"], "signing_key": officer.signing.public},
        *ceremony.description()["people"],
    ]
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(people=people))
    assert refusal(mirror) == "directory-tampered"


def _flip(content: bytes) -> bytes:
    return content[:-20] + bytes([content[-20] ^ 1]) + content[-19:]


@pytest.mark.parametrize("change", [_flip, lambda content: content[:-1], lambda _: b""])
@pytest.mark.parametrize("ending", ["chemical.json", "people.json", "directory.json"])
def test_a_part_without_its_hash_is_refused(
    mirror: Mirror, ending: str, change: Callable[[bytes], bytes]
) -> None:
    [name] = [one for one in mirror.files if one.endswith(f".{ending}")]
    mirror.files[name] = change(mirror.files[name])
    assert refusal(mirror) == "directory-tampered"


def test_a_part_that_is_longer_than_signed_is_refused(mirror: Mirror) -> None:
    [name] = [one for one in mirror.files if one.endswith(".people.json")]
    mirror.files[name] += b" "
    assert refusal(mirror) == "directory-tampered"


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json"])
@pytest.mark.parametrize(
    "junk",
    [b"", b"{}", b"[]", b"\xff", b"[" * 5000, b'{"signed":{"_type":"root"}}', b"x" * 300_000],
)
def test_junk_instead_of_metadata_is_refused(mirror: Mirror, name: str, junk: bytes) -> None:
    mirror.files[name] = junk
    assert refusal(mirror) == "directory-tampered"


def test_metadata_of_another_kind_is_refused(ceremony: Ceremony, mirror: Mirror) -> None:
    mirror.files["1.targets.json"] = ceremony.root_bytes
    assert refusal(mirror) == "directory-tampered"


@pytest.mark.parametrize(
    "ending", ["timestamp.json", "1.snapshot.json", "1.targets.json", "people.json"]
)
def test_a_missing_part_is_named_as_such(mirror: Mirror, ending: str) -> None:
    for name in [one for one in mirror.files if one.endswith(ending)]:
        del mirror.files[name]
    assert refusal(mirror) == "directory-incomplete"


def test_a_list_that_lacks_a_desk_is_refused(ceremony: Ceremony) -> None:
    proposal = ceremony.proposal(signers=[])
    del proposal.targets.signed.targets["desks/general.json"]
    for officer in ceremony.officers[:2]:
        sign(proposal, officer)
    mirror = Mirror(ceremony)
    mirror.show(proposal)
    assert refusal(mirror) == "directory-incomplete"


def test_directory_json_that_is_no_object_is_refused(ceremony: Ceremony) -> None:
    proposal = ceremony.proposal(signers=[])
    proposal.files["directory.json"] = canonical([1])
    proposal.targets.signed.targets["directory.json"] = proposal.targets.signed.targets[
        "directory.json"
    ].from_data("directory.json", canonical([1]), ["sha256"])
    for officer in ceremony.officers[:2]:
        sign(proposal, officer)
    mirror = Mirror(ceremony)
    mirror.show(proposal)
    assert refusal(mirror) == "directory-tampered"


def test_a_network_that_fails_is_not_called_tampering(ceremony: Ceremony, mirror: Mirror) -> None:
    def silent_after_the_first(name: str) -> bytes | None:
        if name == "timestamp.json":
            raise NetworkFailed("The server fell silent.", slug="silence")
        return mirror.get(name)

    with pytest.raises(NetworkFailed) as failed:
        fetch_directory(silent_after_the_first, ceremony.root_bytes, None)
    assert failed.value.slug == "silence"


def test_a_cache_that_cannot_be_written_is_named(
    ceremony: Ceremony, mirror: Mirror, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Usage) as refused:
        fetch_directory(mirror.get, ceremony.root_bytes, tmp_path / "file")
    assert refused.value.slug == "cache-unusable"


def test_what_did_not_change_is_fetched_once(
    ceremony: Ceremony, mirror: Mirror, tmp_path: Path
) -> None:
    first = fetch_directory(mirror.get, ceremony.root_bytes, tmp_path)
    mirror.asked.clear()
    assert fetch_directory(mirror.get, ceremony.root_bytes, tmp_path) == first
    assert mirror.asked == ["2.root.json", "timestamp.json"]


def test_a_spoiled_cache_is_not_believed(
    ceremony: Ceremony, mirror: Mirror, tmp_path: Path
) -> None:
    first = fetch_directory(mirror.get, ceremony.root_bytes, tmp_path)
    for path in tmp_path.rglob("*.json"):
        if not path.is_symlink():
            path.write_bytes(b"{}")
    assert fetch_directory(mirror.get, ceremony.root_bytes, tmp_path) == first


# Roots


def next_root(
    ceremony: Ceremony,
    signers: list[PersonKeys],
    change: Callable[[Metadata[Root]], object] = lambda _: None,
) -> bytes:
    """Return the second root, signed by `signers`."""
    root = Metadata[Root].from_bytes(ceremony.root_bytes)
    root.signed.version = 2
    root.signatures.clear()
    change(root)
    for officer in signers:
        root.sign(tuf_signer(officer.signing), append=True)
    return root.to_bytes()


def test_a_new_root_by_the_officers_of_the_old_is_followed(
    ceremony: Ceremony, mirror: Mirror, tmp_path: Path
) -> None:
    newcomer = PersonKeys.generate("officer")

    def replace_third(root: Metadata[Root]) -> None:
        for role in ("root", "targets"):
            root.signed.revoke_key(tuf_key(ceremony.officers[2].signing.public).keyid, role)
            root.signed.add_key(tuf_key(newcomer.signing.public), role)

    mirror.files["2.root.json"] = next_root(ceremony, ceremony.officers[:2], replace_third)
    mirror.show(ceremony.proposal(2, signers=[ceremony.officers[0], newcomer]))
    assert fetch_directory(mirror.get, ceremony.root_bytes, tmp_path).directory.version == 2
    # The old root is not shown again to those who saw the new one, and the retired key is worthless.
    del mirror.files["2.root.json"]
    mirror.show(ceremony.proposal(3, signers=ceremony.officers[1:]))
    assert refusal(mirror, tmp_path) == "directory-threshold"


def test_a_new_root_without_the_old_officers_is_refused(ceremony: Ceremony, mirror: Mirror) -> None:
    def lower(root: Metadata[Root]) -> None:
        root.signed.roles["root"].threshold = 1

    mirror.files["2.root.json"] = next_root(ceremony, ceremony.officers[:1], lower)
    assert refusal(mirror) == "directory-threshold"


@pytest.mark.parametrize("deployment", ["amana-test", "amana-elsewhere"])
def test_a_root_that_changes_the_deployment_is_refused(
    ceremony: Ceremony, mirror: Mirror, deployment: str
) -> None:
    def rename(root: Metadata[Root]) -> None:
        root.signed.unrecognized_fields["x-amana"]["deployment"] = "amana-elsewhere"

    mirror.files["2.root.json"] = next_root(ceremony, ceremony.officers[:2], rename)
    mirror.show(ceremony.proposal(2, deployment=deployment))
    assert refusal(mirror) == "directory-tampered"


def test_a_root_is_read_only_when_its_own_officers_signed_it(ceremony: Ceremony) -> None:
    assert read_root(ceremony.root_bytes).deployment == "amana-test"
    unsigned = ceremony.root(datetime.now(UTC))
    unsigned.sign(tuf_signer(ceremony.officers[0].signing))
    without_pins = Metadata[Root].from_bytes(ceremony.root_bytes)
    del without_pins.signed.unrecognized_fields["x-amana"]
    without_pins.signatures.clear()
    for officer in ceremony.officers[:2]:
        without_pins.sign(tuf_signer(officer.signing), append=True)
    targets: Metadata[Targets] = ceremony.proposal().targets
    for content in (
        unsigned.to_bytes(),
        without_pins.to_bytes(),
        targets.to_bytes(),
        ceremony.root_bytes.replace(b"amana-test", b"amana-rest"),
        b"",
        b"{}",
        b"[" * 5000,
    ):
        with pytest.raises(NotVerified) as refused:
            read_root(content)
        assert refused.value.slug == "root-invalid"
