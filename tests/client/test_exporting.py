"""What stops an export leaves nothing behind but sealed bytes to go on with; what leaves was checked as a stranger would."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from amana.client.administrator import Administrator
from amana.client.bundle import opened_bundle
from amana.client.bundlecheck import check_bundle, read_contents
from amana.client.custody import CustodyReader
from amana.client.errors import NetworkFailed, NotVerified, Refused, Usage
from amana.client.exporting import PROOF_TRIES, Derivative, Exporter, ListedExport
from amana.client.handover import receive
from amana.client.keyfile import PersonKeys
from amana.client.progress import Silent
from amana.client.transport import Patience, Transport
from amana.ops.maintenance import maintain
from amana.ops.sequencer import sequence
from amana.protocol.custody import commitment_to
from amana.protocol.encoding import b64, unb64
from tests.support.bundles import ACCOUNT, FILES, exporting, sequenced
from tests.support.cosigners import RunningCosigner
from tests.support.exports import SCOPES, Leaving
from tests.support.lying import Lying, in_json
from tests.support.organisation import Organisation, organisation_in
from tests.support.statements import Witness


@dataclass
class Place:
    """A served organisation whose server can lie."""

    organisation: Organisation
    lying: Lying
    url: str

    @contextmanager
    def exporter(self, leaving: Leaving) -> Iterator[Exporter]:
        with Transport(self.url, silence_seconds=10) as transport:
            patience = Patience(attempts=2, first_seconds=0.05)
            yield Exporter(
                transport, self.organisation.root, leaving.reader.keys, patience=patience
            )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with organisation_in(tmp_path_factory.mktemp("exporting")) as organisation:
        lying = Lying(organisation.app.wsgi_app)
        organisation.app.wsgi_app = lying  # type: ignore[method-assign]
        with sequenced(organisation), organisation.served() as url:
            yield Place(organisation, lying, url)


@pytest.fixture
def place(served: Place) -> Iterator[Place]:
    # The clients look at a real clock.
    served.organisation.clock.follow()
    yield served
    served.lying.lies.clear()
    served.lying.denials.clear()
    served.lying.cuts.clear()


@pytest.fixture
def leaving(place: Place) -> Leaving:
    made = Leaving.accepted(place.organisation, account=ACCOUNT, files=FILES)
    made.approved()
    return made


def the_export(exporter: Exporter, leaving: Leaving) -> ListedExport:
    [found] = exporter.exports(leaving.case)
    return found


def left(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_what_cannot_be_is_said_before_anything_is_fetched(
    place: Place, leaving: Leaving, tmp_path: Path
) -> None:
    out = tmp_path / "bundle.age"
    file = tmp_path / "text.txt"
    file.write_text("[SYNTHETIC]")
    own = leaving.reader.keys.id
    with place.exporter(leaving) as exporter:
        found = the_export(exporter, leaving)
        for derivative, slug in (
            (Derivative("translation", 9, file, own), "object-unknown"),
            (Derivative("redaction", 9, file, own), "object-unknown"),
            (Derivative("translation", 0, file, "b" * 32), "maker-unknown"),
            (Derivative("translation", 0, tmp_path / "nowhere", own), "unreadable-file"),
        ):
            with pytest.raises(Usage) as error:
                exporter.assemble(found, out, (derivative,))
            assert error.value.slug == slug
        out.write_bytes(b"")
        with pytest.raises(Usage) as error:
            exporter.assemble(found, out)
        assert error.value.slug == "file-exists"
        with pytest.raises(Usage) as error:
            exporter.request(leaving.case, "b" * 32, "iiim")
        assert error.value.slug == "partner-unknown"
    assert left(tmp_path) == ["bundle.age", "text.txt"]


@pytest.mark.parametrize("step", ["leave", "completion"])
def test_a_refusal_on_the_way_leaves_nothing(
    place: Place, leaving: Leaving, tmp_path: Path, step: str
) -> None:
    with place.exporter(leaving) as exporter:
        found = the_export(exporter, leaving)
        place.lying.denials[f"/v1/exports/{found.export}/{step}"] = [403]
        with pytest.raises(Refused):
            exporter.assemble(found, tmp_path / "bundle.age")
    assert left(tmp_path) == []
    assert leaving.told(found.export)["state"] == "approved"


def test_consent_that_is_narrowed_while_it_is_assembled_ends_it(
    place: Place, leaving: Leaving, tmp_path: Path
) -> None:
    witness = Witness(place.organisation, leaving.made)

    def narrow(document: dict[str, Any]) -> None:
        assert witness.consent({**SCOPES, "iiim": "deny"}).status_code == 200
        assert document

    # The moment at which the client asks what the witness signed.
    place.lying.lies[f"/v1/cases/{leaving.case}/consent"] = in_json(narrow)
    with place.exporter(leaving) as exporter, pytest.raises(Refused) as refused:
        exporter.assemble(the_export(exporter, leaving), tmp_path / "bundle.age")
    assert refused.value.slug == "consent-denies"
    assert left(tmp_path) == []


def test_an_export_goes_on_where_the_network_was_cut(
    place: Place, leaving: Leaving, tmp_path: Path
) -> None:
    out = tmp_path / "bundle.age"
    with place.exporter(leaving) as exporter:
        found = the_export(exporter, leaving)
        place.lying.cuts[:] = [40_000, 0, 0, 0]
        with pytest.raises(NetworkFailed):
            exporter.assemble(found, out)
        [kept] = tmp_path.iterdir()
        plain = b"".join(one.read_bytes() for one in kept.iterdir())
        assert FILES[1] not in plain
        assert ACCOUNT not in plain
        place.lying.cuts.clear()
        assert exporter.assemble(found, out).size == out.stat().st_size
    assert left(tmp_path) == ["bundle.age"]


def test_what_the_log_never_holds_does_not_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amana.client.exporting.PLACED_SECONDS", 0.0)
    with organisation_in(tmp_path / "o") as organisation, organisation.served() as url:
        leaving = Leaving.accepted(organisation, account=ACCOUNT, files=FILES)
        leaving.approved()
        # And never again: the log holds all but the opening that the export begins with.
        sequence(organisation.services)
        organisation.clock.follow()
        out = tmp_path / "out"
        out.mkdir()
        with Place(organisation, Lying(organisation.app.wsgi_app), url).exporter(
            leaving
        ) as exporter:
            found = the_export(exporter, leaving)
            with pytest.raises(NotVerified) as error:
                exporter.assemble(found, out / "bundle.age")
        assert error.value.slug == "not-in-log"
        assert left(out) == []


def test_whoever_approves_signs_for_what_the_log_holds_in_its_order(place: Place) -> None:
    leaving = Leaving.accepted(place.organisation)
    export = leaving.asked()
    place.organisation.clock.follow()
    shown: list[str] = leaving.told(export)["leaves"]

    def approve(*leaves: str) -> None:
        place.lying.lies["/v1/exports"] = in_json(
            lambda document: [
                one.update(leaves=leaves) for one in document["exports"] if one["export"] == export
            ]
        )
        with Transport(place.url, silence_seconds=10) as transport:
            keys = leaving.administrator.keys
            Administrator(transport, place.organisation.root, keys).decide_export(export, "approve")

    unknown = "0" * 64
    with pytest.raises(NotVerified) as error:
        approve(unknown)
    assert error.value.slug == "export-unlogged"
    with pytest.raises(NotVerified):
        approve("not a leaf")
    # A leaf that the log does not hold yet is left to a later bundle.
    approve(*shown[::-1], unknown)
    place.lying.lies.clear()
    with Transport(place.url, silence_seconds=10) as transport:
        reader = CustodyReader(transport, place.organisation.root, leaving.reader.keys)
        entries = reader.custody(leaving.case).entries
    leaves = [bytes.fromhex(one.leaf) for one in entries if one.leaf in shown]
    assert leaves[0] == leaving.arrival
    assert leaving.told(export)["approval"]["body"]["custody"] == commitment_to(leaves)
    assert len(leaves) == len(shown)


def test_an_export_waits_until_cosigners_vouch_for_its_own_opening(tmp_path: Path) -> None:
    cosigner = RunningCosigner(tmp_path, "one.example/1")
    proofs = 0
    with organisation_in(tmp_path / "o", cosigners={cosigner.vkey: cosigner.url}) as organisation:
        sequence(organisation.services)
        cosigner.start(["--root", str(organisation.folder / "demo" / "root.json")])
        maintain(organisation.services)
        leaving = Leaving.accepted(organisation, account=ACCOUNT, files=FILES)
        leaving.approved()
        genuine = organisation.app.wsgi_app

        def watched(environ: dict[str, Any], start_response: Any) -> Any:
            nonlocal proofs
            proofs += "/proof/" in environ["PATH_INFO"]
            if proofs == 2 * PROOF_TRIES:
                # As the custody log does every five minutes.
                maintain(organisation.services)
            return genuine(environ, start_response)

        organisation.app.wsgi_app = watched  # type: ignore[method-assign]
        try:
            with exporting(organisation, leaving.reader.keys) as exporter:
                [listed] = exporter.exports(leaving.case)
                made = exporter.assemble(listed, tmp_path / "bundle.age")
        finally:
            cosigner.close()
        assert proofs > 2 * PROOF_TRIES
        with opened_bundle(made.file, leaving.partner.intake) as entries:
            checks = check_bundle(read_contents(entries), organisation.root)
    [said] = [one for one in checks if one.name == "log"]
    assert said.ok
    assert "1 cosigners" in said.detail


@pytest.mark.parametrize("what", ["request", "approval"])
def test_what_a_server_says_was_signed_is_checked_before_it_leaves(
    place: Place, leaving: Leaving, tmp_path: Path, what: str
) -> None:
    def lie(document: dict[str, Any]) -> None:
        for one in document["exports"]:
            one[what]["action"]["made_at"] = "2020-01-01T00:00:00Z"

    place.lying.lies["/v1/exports"] = in_json(lie)
    with place.exporter(leaving) as exporter:
        found = the_export(exporter, leaving)
        with pytest.raises(NotVerified) as error:
            exporter.assemble(found, tmp_path / "bundle.age")
    assert "export" in error.value.title
    assert left(tmp_path) == []


def test_a_server_that_keeps_a_statement_back_is_found_out(
    place: Place, leaving: Leaving, tmp_path: Path
) -> None:
    witness = Witness(place.organisation, leaving.made)
    assert witness.consent({**SCOPES, "opcw": "allow"}).status_code == 200
    path = f"/v1/cases/{leaving.case}/consent"
    place.lying.lies[path] = in_json(lambda document: document.update(statements=[]))
    with place.exporter(leaving) as exporter, pytest.raises(NotVerified) as error:
        exporter.assemble(the_export(exporter, leaving), tmp_path / "bundle.age")
    assert "policy" in error.value.title


# The second person's client


def test_an_administrator_judges_for_themselves(place: Place) -> None:
    leaving = Leaving.accepted(place.organisation)
    export = leaving.asked()

    def approve(lie: Any) -> str:
        place.lying.lies["/v1/exports"] = in_json(
            lambda document: [lie(one) for one in document["exports"] if one["export"] == export]
        )
        with Transport(place.url, silence_seconds=10) as transport:
            place.organisation.clock.follow()
            keys = leaving.administrator.keys
            administrator = Administrator(transport, place.organisation.root, keys)
            with pytest.raises(NotVerified) as error:
                administrator.decide_export(export, "approve")
        return error.value.slug

    def other_policy(one: dict[str, Any]) -> None:
        policy = json.loads(unb64(one["policies"][0]["policy"]))
        policy["consent"]["scopes"]["iiim"] = "deny"
        one["policies"][0]["policy"] = b64(json.dumps(policy).encode())

    other = Leaving.accepted(place.organisation, scopes={"review": "allow"})
    lies: list[Any] = [
        lambda one: one.update(purpose="opcw"),
        lambda one: one.update(requested_by="b" * 32),
        lambda one: one.update(case=other.case),
        lambda one: one.update(request=None),
        lambda one: one["request"]["body"].update(to="b" * 32),
        lambda one: one.update(policies=[]),
        other_policy,
    ]
    assert {approve(lie) for lie in lies} == {"export-doubtful"}
    assert leaving.told(export)["state"] == "pending"


# The partner's client


def test_a_bundle_for_somebody_else_or_damaged_is_not_received(
    place: Place, leaving: Leaving, tmp_path: Path
) -> None:
    sealed, out = tmp_path / "bundle.age", tmp_path / "received"
    with place.exporter(leaving) as exporter:
        exporter.assemble(the_export(exporter, leaving), sealed)
    root, today = place.organisation.root, leaving.today
    stranger = PersonKeys.generate("partner")
    received = receive(sealed, stranger, root, out, today, Silent())
    assert received.receipt is None
    assert left(tmp_path) == ["bundle.age"]
    whole = sealed.read_bytes()
    for damaged in (whole[:-1], whole[:-70_000], whole[:3000] + b"x" + whole[3001:], whole + b"x"):
        sealed.write_bytes(damaged)
        received = receive(sealed, leaving.partner, root, out, today, Silent())
        assert received.receipt is None
        assert left(tmp_path) == ["bundle.age"]
    sealed.write_bytes(whole)
    with pytest.raises(Usage):
        receive(sealed, leaving.administrator.keys, root, out, today, Silent())

    def full(_receipt: dict[str, Any]) -> None:
        assert not out.exists()
        raise Usage("There is no room for the receipt.")

    with pytest.raises(Usage):
        receive(sealed, leaving.partner, root, out, today, Silent(), (), full)
    assert left(tmp_path) == ["bundle.age"]
    kept: list[dict[str, Any]] = []
    received = receive(sealed, leaving.partner, root, out, today, Silent(), (), kept.append)
    assert [received.receipt] == kept
    assert (out / "data" / "files" / "0.json").stat().st_mode & 0o077 == 0
    with pytest.raises(Usage) as error:
        receive(sealed, leaving.partner, root, out, today, Silent())
    assert error.value.slug == "folder-taken"
