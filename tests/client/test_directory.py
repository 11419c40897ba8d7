"""What a server that holds the online key can show a client, and what the client refuses."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Metadata, Root, Targets

from amana.client.directory import (
    expiry_warnings,
    fetch_directory,
    fetch_expired,
    fetch_version,
    read_root,
)
from amana.client.errors import NetworkFailed, NotVerified, Usage
from amana.client.keyfile import PersonKeys
from amana.client.officer import Proposal, online_keys, rotate_root, sign, tuf_key, tuf_signer
from amana.protocol.directory import sign_intake_key
from amana.protocol.encoding import canonical
from amana.protocol.errors import ProtocolError
from amana.protocol.signing import SigningKey
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


# One key under two ids, and one key on both sides


def _again_under_another_id(ceremony: Ceremony, root: Metadata[Root]) -> None:
    """Name the first officer's key a second time, under an id of their own making."""
    first = root.signed.keys[tuf_key(ceremony.officers[0].signing.public).keyid]
    alias = SSlibKey("a" * 64, first.keytype, first.scheme, first.keyval)
    for role in ("root", "targets"):
        root.signed.add_key(alias, role)


def _same_key_spelled_otherwise(ceremony: Ceremony, root: Metadata[Root]) -> None:
    first = tuf_key(ceremony.officers[0].signing.public)
    alias = SSlibKey("b" * 64, "ed25519", "ed25519", {"public": first.keyval["public"].upper()})
    for role in ("root", "targets"):
        root.signed.add_key(alias, role)


def _online_key_as_officer(ceremony: Ceremony, root: Metadata[Root]) -> None:
    for role in ("root", "targets"):
        root.signed.add_key(tuf_key(ceremony.online.public), role)


def _online_key_signs_targets(ceremony: Ceremony, root: Metadata[Root]) -> None:
    root.signed.add_key(tuf_key(ceremony.online.public), "targets")


def _officer_keeps_the_time(ceremony: Ceremony, root: Metadata[Root]) -> None:
    root.signed.add_key(tuf_key(ceremony.officers[0].signing.public), "timestamp")


def _log_key_as_officer(ceremony: Ceremony, root: Metadata[Root]) -> None:
    for role in ("root", "targets"):
        root.signed.add_key(tuf_key(ceremony.custody_log.public), role)


def _another_kind_of_key(_: Ceremony, root: Metadata[Root]) -> None:
    generated = ec.generate_private_key(ec.SECP256R1()).public_key()
    root.signed.add_key(SSlibKey.from_crypto(generated), "targets")


UNSAFE_ROOTS = [
    _again_under_another_id,
    _same_key_spelled_otherwise,
    _online_key_as_officer,
    _online_key_signs_targets,
    _officer_keeps_the_time,
    _log_key_as_officer,
    _another_kind_of_key,
]


@pytest.mark.parametrize("change", UNSAFE_ROOTS)
def test_a_root_whose_keys_have_two_ids_or_two_sides_is_refused_everywhere(
    ceremony: Ceremony,
    mirror: Mirror,
    change: Callable[[Ceremony, Metadata[Root]], None],
    tmp_path: Path,
) -> None:
    """Two honest officers signed it unseeing; with it one of them alone would publish readers."""
    second = next_root(ceremony, ceremony.officers[:2], lambda root: change(ceremony, root))
    third = Metadata[Root].from_bytes(ceremony.root_bytes)
    third.signed.version = 3
    third.signatures.clear()
    for officer in ceremony.officers[:2]:
        third.sign(tuf_signer(officer.signing), append=True)
    mirror.files["2.root.json"] = second
    mirror.show(ceremony.proposal(2))
    assert refusal(mirror, tmp_path) == "directory-tampered"
    with pytest.raises(NotVerified) as refused:
        fetch_version(mirror.get, ceremony.root_bytes, 1)
    assert refused.value.slug == "directory-tampered"
    with pytest.raises(NotVerified) as refused:
        read_root(second)
    assert refused.value.slug == "root-invalid"
    # Nor does a good root after it make it good, now or for a cache that remembers.
    mirror.files["3.root.json"] = third.to_bytes()
    assert refusal(mirror, tmp_path) == "directory-tampered"
    assert not (tmp_path / "root_history" / "2.root.json").exists()


# A key in another role, and versions mixed


def _signed_by(mirror: Mirror, name: str, *keys: SigningKey) -> None:
    """Sign a file of the mirror anew, by other keys than its own."""
    metadata: Metadata[Any] = Metadata.from_bytes(mirror.files[name])
    metadata.signatures.clear()
    for key in keys:
        metadata.sign(tuf_signer(key), append=True)
    mirror.files[name] = metadata.to_bytes()


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json"])
def test_officers_keys_do_not_stand_in_for_the_servers(
    ceremony: Ceremony, mirror: Mirror, name: str
) -> None:
    _signed_by(mirror, name, *(one.signing for one in ceremony.officers))
    assert refusal(mirror) == "directory-threshold"


@pytest.mark.parametrize("key", ["online", "directory_log", "custody_log"])
def test_a_key_of_the_server_does_not_stand_in_for_an_officers(
    ceremony: Ceremony, mirror: Mirror, key: str
) -> None:
    _signed_by(mirror, "1.targets.json", ceremony.officers[0].signing, getattr(ceremony, key))
    assert refusal(mirror) == "directory-threshold"


def test_a_readers_signing_key_is_no_officers(ceremony: Ceremony) -> None:
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(signers=[ceremony.officers[0], ceremony.lead]))
    assert refusal(mirror) == "directory-threshold"


def _listed_anew(ceremony: Ceremony, name: str, change: Callable[[Any], object]) -> Proposal:
    """Let two officers sign parts that their own command would refuse."""
    proposal = ceremony.proposal(signers=[])
    document = json.loads(proposal.files[name])
    change(document)
    proposal.files[name] = canonical(document)
    info = proposal.targets.signed.targets[name]
    proposal.targets.signed.targets[name] = info.from_data(name, proposal.files[name], ["sha256"])
    for officer in ceremony.officers[:2]:
        sign(proposal, officer)
    return proposal


def test_a_readers_key_listed_as_a_custodians_is_refused(ceremony: Ceremony) -> None:
    custodian, key = ceremony.custodian, ceremony.lead.intake_recipient
    signed = sign_intake_key(custodian.signing, custodian.id, key)

    def share(document: Any) -> None:
        document["custodians"]["members"][0].update(intake_key=str(key), intake_key_sig=signed)

    mirror = Mirror(ceremony)
    mirror.show(_listed_anew(ceremony, "directory.json", share))
    assert refusal(mirror) == "directory-tampered"


def test_a_leads_key_listed_as_an_administrators_is_refused(ceremony: Ceremony) -> None:
    def share(document: Any) -> None:
        document["people"][1]["signing_key"] = ceremony.lead.signing.public

    mirror = Mirror(ceremony)
    mirror.show(_listed_anew(ceremony, "people.json", share))
    assert refusal(mirror) == "directory-tampered"


def test_an_intake_key_that_its_owner_did_not_sign_is_refused(ceremony: Ceremony) -> None:
    """Officers cannot give a person's name to a key that is not theirs, however many sign."""
    stranger = PersonKeys.generate("reviewer")
    key = stranger.intake_recipient
    signed = sign_intake_key(stranger.signing, ceremony.lead.id, key)

    def slip_in(document: Any) -> None:
        document["readers"][0].update(intake_key=str(key), intake_key_sig=signed)

    mirror = Mirror(ceremony)
    mirror.show(_listed_anew(ceremony, "desks/chemical.json", slip_in))
    assert refusal(mirror) == "directory-tampered"


def test_a_snapshot_under_another_ones_name_is_refused(ceremony: Ceremony) -> None:
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(1))
    mirror.show(ceremony.proposal(2))
    mirror.files["2.snapshot.json"] = mirror.files["1.snapshot.json"]
    assert refusal(mirror) == "directory-rollback"


def test_an_older_time_stamp_is_refused_over_runs(ceremony: Ceremony, tmp_path: Path) -> None:
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(1))
    older = mirror.files["timestamp.json"]
    mirror.point_to(1)
    fetch_directory(mirror.get, ceremony.root_bytes, tmp_path)
    mirror.files["timestamp.json"] = older
    assert refusal(mirror, tmp_path) == "directory-rollback"


def test_a_desk_of_another_version_under_its_own_hash_is_refused(ceremony: Ceremony) -> None:
    """Both parts are the officers' own, each of its version: only the list says which belong together."""
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(1))
    [old] = [name for name in mirror.files if name.endswith(".chemical.json")]
    mirror.show(ceremony.proposal(2, desks=[desk("chemical", [reader(ceremony.lead, lead=True)])]))
    [new] = [name for name in mirror.files if name.endswith(".chemical.json") and name != old]
    mirror.files[new] = mirror.files[old]
    assert refusal(mirror) == "directory-tampered"


def test_an_old_root_under_the_next_ones_name_is_refused(
    ceremony: Ceremony, mirror: Mirror
) -> None:
    mirror.files["2.root.json"] = ceremony.root_bytes
    assert refusal(mirror) == "directory-rollback"


# Versions that were published once


def rotated(ceremony: Ceremony, newcomer: PersonKeys) -> Mirror:
    """Return a mirror whose second version stands under a second root, with one officer replaced."""
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(1, signers=[ceremony.officers[0], ceremony.officers[2]]))
    root = rotate_root(
        ceremony.first_root.signed,
        drop=[ceremony.officers[2].signing.public],
        add=[newcomer.signing.public],
        now=datetime.now(UTC),
    )
    for officer in ceremony.officers[:2]:
        root.sign(tuf_signer(officer.signing), append=True)
    mirror.files["2.root.json"] = root.to_bytes()
    mirror.show(ceremony.proposal(2, signers=[ceremony.officers[0], newcomer], drop_bits=2))
    mirror.show(ceremony.proposal(3, signers=ceremony.officers[:2], drop_bits=3))
    return mirror


def test_an_earlier_version_verifies_under_the_root_of_its_time(ceremony: Ceremony) -> None:
    mirror = rotated(ceremony, PersonKeys.generate("officer"))
    for version, root, oldest in ((1, 1, 1), (2, 2, 2), (3, 2, 1)):
        found = fetch_version(mirror.get, ceremony.root_bytes, version)
        assert (found.directory.version, found.root.signed.version) == (version, root)
        found = fetch_version(mirror.get, ceremony.root_bytes, version, oldest_root=True)
        assert found.root.signed.version == oldest
    second = mirror.files["2.root.json"]
    with pytest.raises(NotVerified) as refused:
        fetch_version(mirror.get, second, 1)
    assert refused.value.slug == "directory-threshold"


def test_what_expired_is_found_to_be_renewed_and_nothing_unsigned_is(ceremony: Ceremony) -> None:
    mirror = rotated(ceremony, PersonKeys.generate("officer"))
    with time_machine.travel(datetime.now(UTC) + timedelta(days=100), tick=False):
        assert refusal(mirror) == "directory-expired"
        assert fetch_expired(mirror.get, ceremony.root_bytes, None).directory.version == 3
        mirror.show(ceremony.proposal(4, signers=ceremony.officers[:1]))
        with pytest.raises(NotVerified) as refused:
            fetch_expired(mirror.get, ceremony.root_bytes, None)
        assert refused.value.slug == "directory-threshold"


def test_what_expired_is_not_rolled_back_by_whoever_holds_no_key(
    ceremony: Ceremony, tmp_path: Path
) -> None:
    mirror = rotated(ceremony, PersonKeys.generate("officer"))
    with time_machine.travel(datetime.now(UTC) + timedelta(days=1), tick=False):
        mirror.point_to(3)
        assert fetch_directory(mirror.get, ceremony.root_bytes, tmp_path).directory.version == 3
    honest = dict(mirror.files)

    def refused(cache: Path | None = tmp_path) -> str:
        with pytest.raises(NotVerified) as caught:
            fetch_expired(mirror.get, ceremony.root_bytes, cache)
        return caught.value.slug

    with time_machine.travel(datetime.now(UTC) + timedelta(days=100), tick=False):
        mirror.point_to(1)
        # Dropped officers signed the first version; the root of today does not know them.
        assert refused(None) == "directory-threshold"
        mirror.point_to(2)
        assert refused() == "directory-rollback"
        pointing = dict(mirror.files)
        for name in ("timestamp.json", f"{mirror.number}.snapshot.json"):
            _signed_by(mirror, name, SigningKey.generate())
            assert refused(None) == "directory-threshold"
            mirror.files = dict(pointing)
        mirror.files = honest
        assert fetch_expired(mirror.get, ceremony.root_bytes, tmp_path).directory.version == 3


def test_a_new_key_of_the_server_does_not_make_a_cache_forget(
    ceremony: Ceremony, tmp_path: Path
) -> None:
    """TUF §5.3.11 drops what the old key signed; what the officers signed stays seen."""
    mirror = Mirror(ceremony)
    mirror.show(ceremony.proposal(1))
    mirror.show(ceremony.proposal(2))
    assert fetch_directory(mirror.get, ceremony.root_bytes, tmp_path).directory.version == 2
    keys = online_keys(SigningKey.generate(), ceremony.directory_log, ceremony.custody_log)
    online = SigningKey.generate()
    root = rotate_root(
        ceremony.first_root.signed, online={**keys, "online": online.public}, now=datetime.now(UTC)
    )
    for officer in ceremony.officers[:2]:
        root.sign(tuf_signer(officer.signing), append=True)
    mirror.files["2.root.json"] = root.to_bytes()
    mirror.point_to(1, number=1)
    for name in ("1.snapshot.json", "timestamp.json"):
        _signed_by(mirror, name, online)
    # A first-time client cannot know; the second refusal shows that the first did not lower the floor.
    assert fetch_directory(mirror.get, ceremony.root_bytes, None).directory.version == 1
    assert refusal(mirror, tmp_path) == "directory-rollback"
    assert refusal(mirror, tmp_path) == "directory-rollback"


def test_a_damaged_memory_of_what_was_seen_is_not_taken_for_none(
    ceremony: Ceremony, mirror: Mirror, tmp_path: Path
) -> None:
    fetch_directory(mirror.get, ceremony.root_bytes, tmp_path)
    (tmp_path / "newest-version").write_text("soon")
    with pytest.raises(Usage) as refused:
        fetch_directory(mirror.get, ceremony.root_bytes, tmp_path)
    assert refused.value.slug == "cache-unusable"


def _swap_lists(mirror: Mirror) -> None:
    mirror.files["1.targets.json"] = mirror.files["3.targets.json"]


def _spoil_a_part(mirror: Mirror) -> None:
    for name in mirror.files:
        if name.endswith(".people.json"):
            mirror.files[name] = _flip(mirror.files[name])


def _forge_a_root(mirror: Mirror) -> None:
    _signed_by(mirror, "2.root.json", mirror.ceremony.officers[0].signing)


def _root_of(mirror: Mirror, *signers: PersonKeys, **changes: Any) -> None:
    root = rotate_root(mirror.ceremony.first_root.signed, now=datetime.now(UTC), **changes)
    for one in signers:
        root.sign(tuf_signer(one.signing), append=True)
    mirror.files["2.root.json"] = root.to_bytes()


def _let_newcomers_sign_alone(mirror: Mirror) -> None:
    newcomers = [PersonKeys.generate("officer") for _ in range(2)]
    added = [one.signing.public for one in newcomers]
    _root_of(mirror, *newcomers, mirror.ceremony.officers[0], add=added)


def _let_the_old_officers_sign_alone(mirror: Mirror) -> None:
    _root_of(mirror, *mirror.ceremony.officers[:2], root_threshold=3)


def _show_the_root_as_list(mirror: Mirror) -> None:
    mirror.files["1.targets.json"] = mirror.files["1.root.json"]


def _lose_the_list(mirror: Mirror) -> None:
    del mirror.files["1.targets.json"]


def _junk(mirror: Mirror) -> None:
    mirror.files["1.targets.json"] = b"[" * 5000


@pytest.mark.parametrize(
    ("change", "slug"),
    [
        (_swap_lists, "directory-rollback"),
        (_spoil_a_part, "directory-tampered"),
        (_forge_a_root, "directory-threshold"),
        (_let_newcomers_sign_alone, "directory-threshold"),
        (_let_the_old_officers_sign_alone, "directory-threshold"),
        (_show_the_root_as_list, "directory-tampered"),
        (_lose_the_list, "directory-incomplete"),
        (_junk, "directory-tampered"),
    ],
)
def test_an_earlier_version_that_was_altered_is_refused(
    ceremony: Ceremony, change: Callable[[Mirror], None], slug: str
) -> None:
    mirror = rotated(ceremony, PersonKeys.generate("officer"))
    change(mirror)
    with pytest.raises(NotVerified) as refused:
        fetch_version(mirror.get, ceremony.root_bytes, 1)
    assert refused.value.slug == slug


def test_what_must_be_signed_anew_soon_is_said(ceremony: Ceremony) -> None:
    root, targets = ceremony.first_root.signed, ceremony.proposal(1).targets.signed
    now = datetime.now(UTC)

    def said(days: int) -> list[str]:
        return expiry_warnings(root, targets, now + timedelta(days=days))

    assert said(30) == []
    [soon] = said(32)
    assert soon.startswith(f"The directory expires on {targets.expires:%Y-%m-%d}")
    assert said(46)[0].startswith("The directory has expired on")
    assert [line.split(" on ")[0] for line in said(355)] == [
        "The directory has expired",
        "The root expires",
    ]
    assert expiry_warnings(None, targets, now) == []


def test_a_witness_fetches_the_readers_of_their_desk_alone(mirror: Mirror) -> None:
    asked: list[str] = []

    def get(name: str) -> bytes | None:
        asked.append(name)
        return mirror.get(name)

    whole = fetch_directory(mirror.get, mirror.ceremony.root_bytes, None).directory
    for one in whole.desks:
        asked.clear()
        found = fetch_directory(get, mirror.ceremony.root_bytes, None, desk=one.id).directory
        assert found.readers_of(one.id) == whole.readers_of(one.id)
        assert found.readers.keys() == {one.id}
        assert len([name for name in asked if name.startswith("targets/desks/")]) == 1
    with pytest.raises(ProtocolError) as refused:
        fetch_directory(
            mirror.get, mirror.ceremony.root_bytes, None, desk="none"
        ).directory.readers_of("none")
    assert refused.value.slug == "desk-unknown"
