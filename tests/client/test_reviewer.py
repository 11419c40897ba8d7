"""A reviewer opens a case: whole and true, over a network that breaks, or not at all."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from amana.client.errors import ClientError, NetworkFailed, NotVerified, Refused, Usage
from amana.client.keyfile import FormerKey, PersonKeys
from amana.client.progress import Advance, Silent
from amana.client.reviewer import HeldKey, NoGrant, Reviewer, spent_keys
from amana.client.transport import Patience, Transport
from amana.protocol.account import account_bytes, text_account
from amana.protocol.encoding import b64, canonical, random_id, sha256_hex
from amana.protocol.manifest import TAG
from amana.protocol.policy import TAG as POLICY_TAG
from amana.protocol.policy import parse_policy
from amana.protocol.receipt import sign_receipt
from amana.protocol.sealing import Identity, Kind, open_sealed, padme, seal, sealed_size
from amana.protocol.signing import SigningKey
from tests.support.lying import Lying, in_json
from tests.support.organisation import Organisation, organisation_in
from tests.support.testimonies import Made

TEXT = "شهادة تجريبية: رأيت دخاناً أصفر."
ACCOUNT = account_bytes(text_account(text=TEXT, language="ar"))
FILES = (b"\x01" * 200_000, b"\x02" * 200_000)
IMPATIENT = Patience(attempts=3, first_seconds=0.01)


@dataclass
class Desk:
    """An organisation, served by a server that can lie."""

    organisation: Organisation
    lying: Lying
    url: str

    @property
    def reader(self) -> PersonKeys:
        return self.organisation.desks["chemical"][0]

    def send(self, **options: Any) -> Made:
        return self.organisation.send(**({"account": ACCOUNT, "files": FILES} | options))

    def open(
        self, case: str, out: Path, keys: PersonKeys | None = None, root: bytes | None = None
    ) -> Any:
        with Transport(self.url, silence_seconds=10) as transport:
            return self._reviewer(transport, keys, root).open(case, out)

    def cases(self, *wanted: str | None, keys: PersonKeys | None = None) -> list[Any]:
        with Transport(self.url, silence_seconds=10) as transport:
            return self._reviewer(transport, keys).cases(*wanted)

    def held_keys(self) -> dict[str, HeldKey]:
        with Transport(self.url, silence_seconds=10) as transport:
            return self._reviewer(transport, None).held_keys()

    def _reviewer(
        self, transport: Transport, keys: PersonKeys | None, root: bytes | None = None
    ) -> Reviewer:
        return Reviewer(
            transport, root or self.organisation.root, keys or self.reader, patience=IMPATIENT
        )

    def requests(self, part: str) -> list[tuple[str, str, str | None]]:
        return [one for one in self.lying.seen if part in one[1]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with organisation_in(tmp_path_factory.mktemp("organisation")) as organisation:
        lying = Lying(organisation.app.wsgi_app)
        organisation.app.wsgi_app = lying  # type: ignore[method-assign]
        with organisation.served() as url:
            yield Desk(organisation, lying, url)


@pytest.fixture
def desk(served: Desk) -> Desk:
    """The served organisation, honest again; its people may be sent to with tests' own clocks."""
    served.lying.lies.clear()
    served.lying.denials.clear()
    served.lying.lost.clear()
    served.lying.cuts.clear()
    served.lying.seen.clear()
    served.lying.page_limit = None
    served.organisation.clock.follow()
    return served


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "opened"


def test_a_case_is_opened_whole(desk: Desk, out: Path) -> None:
    made = desk.send()
    opened = desk.open(made.case, out)
    assert opened.files == ("account.json", "file-1.bin", "file-2.bin", "manifest.json")
    assert opened.warnings == ()
    assert {path.name for path in out.iterdir()} == set(opened.files)
    assert (out / "account.json").read_bytes() == ACCOUNT
    assert (out / "file-1.bin").read_bytes() == FILES[0]
    assert (out / "file-2.bin").read_bytes() == FILES[1]
    manifest = open_sealed(made.submission.manifest, made.case_key, Kind.MANIFEST)
    assert (out / "manifest.json").read_bytes() == manifest
    assert out.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o600}


def test_a_testimony_of_words_alone_is_opened(desk: Desk, out: Path) -> None:
    made = desk.send(files=())
    assert desk.open(made.case, out).files == ("account.json", "manifest.json")
    assert json.loads((out / "account.json").read_bytes())["text"] == TEXT


def test_an_authentic_account_that_is_not_in_its_form_is_kept_as_it_is(
    desk: Desk, out: Path
) -> None:
    odd = b'{"synthetic":true}'
    made = desk.send(account=odd, files=FILES[:1])
    opened = desk.open(made.case, out)
    assert {path.name for path in out.iterdir()} == {"account.raw", "file-1.bin", "manifest.json"}
    assert (out / "account.raw").read_bytes() == odd
    [warning] = opened.warnings
    assert "account-invalid" in warning


# Lies


def reseal(made: Made, change: Callable[[dict[str, Any]], object]) -> Made:
    """Let the witness's own program write another manifest, well signed and well sealed."""
    content = json.loads(open_sealed(made.submission.manifest, made.case_key, Kind.MANIFEST))
    del content["sig"]
    change(content)
    signed = canonical(made.thread.sign_fields(TAG, content))
    sealed = seal(signed, made.case_key.recipient, Kind.MANIFEST)
    return replace(made, submission=replace(made.submission, manifest=sealed))


def receipted(desk: Desk, change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Let the server sign another receipt: it holds the custody log's key."""
    log = desk.organisation.services.secrets.custody_log

    def rewrite(document: dict[str, Any]) -> None:
        event = document["receipt"]["event"]
        change(event)
        document["receipt"] = sign_receipt(log, event, bytes(32))

    return in_json(rewrite)


def flipped(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1])


def other_policy(made: Made, **changes: Any) -> bytes:
    fields = {**json.loads(made.submission.policy), **changes}
    del fields["sig"]
    return canonical(made.control.sign_fields(POLICY_TAG, fields))


def with_other_policy(desk: Desk, made: Made, *, receipt_too: bool) -> None:
    policy = other_policy(made, withdrawal_delay_days=0)

    def rewrite(document: dict[str, Any]) -> None:
        document["policies"][0]["policy"] = b64(policy)

    def lie(body: bytes) -> bytes:
        body = in_json(rewrite)(body)
        if receipt_too:
            sha256 = parse_policy(policy).sha256
            body = receipted(desk, lambda event: event.update(policy_sha256=sha256))(body)
        return body

    desk.lying.lies[f"/v1/cases/{made.case}"] = lie


def lie_about(part: str, lie: Callable[[Desk, Made], Callable[[bytes], bytes]]) -> Any:
    def tell(desk: Desk, made: Made) -> None:
        path = f"/v1/cases/{made.case}" + (f"/{part}" if part else "")
        desk.lying.lies[path] = lie(desk, made)

    return tell


def _sealed_by_another_key(desk: Desk, made: Made) -> None:
    """The manifest of another case, and a receipt that says it arrived with this one."""
    other = desk.send()
    _serve_manifest(desk, made, other.submission.manifest)


def _manifest_of_another_case(desk: Desk, made: Made) -> None:
    other = desk.send()
    content = open_sealed(other.submission.manifest, other.case_key, Kind.MANIFEST)
    _serve_manifest(desk, made, seal(content, made.case_key.recipient, Kind.MANIFEST))


def _serve_manifest(desk: Desk, made: Made, sealed: bytes) -> None:
    desk.lying.lies[f"/v1/cases/{made.case}/manifest"] = lambda _body: sealed
    desk.lying.lies[f"/v1/cases/{made.case}"] = receipted(
        desk, lambda event: event.update(manifest_sha256=sha256_hex(sealed))
    )


def _swap_objects(desk: Desk, made: Made) -> None:
    for n, other in ((1, 2), (2, 1)):
        sealed = made.sealed[other - 1]
        desk.lying.lies[f"/v1/cases/{made.case}/objects/{n}"] = lambda _body, sealed=sealed: sealed


def _swap_objects_and_receipt(desk: Desk, made: Made) -> None:
    _swap_objects(desk, made)

    def swap(event: dict[str, Any]) -> None:
        one, two = event["objects"][1], event["objects"][2]
        one["sealed_sha256"], two["sealed_sha256"] = two["sealed_sha256"], one["sealed_sha256"]

    desk.lying.lies[f"/v1/cases/{made.case}"] = receipted(desk, swap)


def _grant_of_a_colleague(_desk: Desk, made: Made) -> Callable[[bytes], bytes]:
    size = len(made.submission.grants) // 2
    halves = {made.submission.grants[:size], made.submission.grants[size:]}

    def swap(document: dict[str, Any]) -> None:
        [grant] = document["grants"]
        [other] = [b64(one) for one in halves if b64(one) != grant["grant"]]
        grant["grant"] = other

    return in_json(swap)


LIES: dict[str, tuple[Any, str]] = {
    "an altered object": (lie_about("objects/1", lambda *_: flipped), "object-differs"),
    "an altered account": (lie_about("objects/0", lambda *_: flipped), "object-differs"),
    "an object that is too long": (
        lie_about("objects/2", lambda *_: lambda body: body + b"x"),
        "answer-too-large",
    ),
    "swapped objects": (_swap_objects, "object-differs"),
    "swapped objects and a receipt for them": (_swap_objects_and_receipt, "objects-differ"),
    "a dropped object and a receipt without it": (
        lie_about("", lambda desk, _: receipted(desk, lambda event: event["objects"].pop())),
        "objects-differ",
    ),
    "an altered manifest": (lie_about("manifest", lambda *_: flipped), "manifest-differs"),
    "a manifest of another case": (_manifest_of_another_case, "manifest-differs"),
    "a manifest under another key": (_sealed_by_another_key, "no-match"),
    "another policy": (
        lambda desk, made: with_other_policy(desk, made, receipt_too=False),
        "policy-differs",
    ),
    "another policy and a receipt for it": (
        lambda desk, made: with_other_policy(desk, made, receipt_too=True),
        "policy-differs",
    ),
    "a policy that the witness did not sign": (
        lie_about(
            "",
            lambda _, made: in_json(
                lambda document: document["policies"][0].update(
                    policy=b64(
                        canonical(
                            {**json.loads(made.submission.policy), "withdrawal_delay_days": 0}
                        )
                    )
                )
            ),
        ),
        "bad-signature",
    ),
    "no policy": (
        lie_about("", lambda *_: in_json(lambda document: document.update(policies=[]))),
        "policy-order",
    ),
    "a policy twice": (
        lie_about(
            "",
            lambda *_: in_json(lambda document: document.update(policies=document["policies"] * 2)),
        ),
        "policy-order",
    ),
    "a receipt by another key": (
        lie_about(
            "",
            lambda *_: in_json(
                lambda document: document.update(
                    receipt=sign_receipt(
                        SigningKey.generate(), document["receipt"]["event"], bytes(32)
                    )
                )
            ),
        ),
        "bad-signature",
    ),
    "a receipt of another case": (
        lie_about(
            "", lambda desk, _: receipted(desk, lambda event: event.update(case=random_id()))
        ),
        "receipt-differs",
    ),
    "a receipt of another installation": (
        lie_about("", lambda desk, _: receipted(desk, lambda event: event.update(deployment="x"))),
        "receipt-differs",
    ),
    "a receipt of something else": (
        lie_about("", lambda desk, _: receipted(desk, lambda event: event.update(kind="action"))),
        "receipt-differs",
    ),
    "a receipt without hashes": (
        lie_about("", lambda desk, _: receipted(desk, lambda event: event.pop("policy_sha256"))),
        "bad-answer",
    ),
    "no receipt": (
        lie_about("", lambda *_: in_json(lambda document: document.update(receipt={}))),
        "receipt-invalid",
    ),
    "a size that the witness did not make": (
        # A terabyte more would fill the device before the hash could tell.
        lie_about(
            "",
            lambda desk, _: receipted(
                desk, lambda event: event["objects"][1].update(size=sealed_size(padme(2**40)))
            ),
        ),
        "objects-differ",
    ),
    "a colleague's grant": (lie_about("grants", _grant_of_a_colleague), "grant-differs"),
    "no grant though one arrived": (
        lie_about("grants", lambda *_: in_json(lambda document: document.update(grants=[]))),
        "grant-differs",
    ),
    "grants that are none": (
        lie_about("grants", lambda *_: in_json(lambda document: document.update(grants=[7]))),
        "bad-answer",
    ),
    "an answer that is no JSON": (lie_about("", lambda *_: lambda _body: b"[]"), "bad-answer"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_and_leaves_nothing(desk: Desk, out: Path, lie: str) -> None:
    made = desk.send()
    tell, slug = LIES[lie]
    tell(desk, made)
    with pytest.raises(NotVerified) as refused:
        desk.open(made.case, out)
    assert (refused.value.slug, refused.value.exit_status) == (slug, 3)
    assert not out.exists()


def test_the_case_of_which_the_lies_are_told_opens_when_they_end(desk: Desk, out: Path) -> None:
    made = desk.send()
    _swap_objects(desk, made)
    with pytest.raises(NotVerified):
        desk.open(made.case, out)
    desk.lying.lies.clear()
    assert len(desk.open(made.case, out).files) == 4


@pytest.mark.parametrize(
    ("field", "value"),
    [("sha256", "00" * 32), ("len", len(FILES[1]) + 1), ("sha256", sha256_hex(FILES[0]))],
)
def test_a_file_that_is_not_what_the_manifest_says_leaves_nothing(
    desk: Desk, out: Path, field: str, value: Any
) -> None:
    """The last of three objects: the others were opened before."""
    made = desk.organisation.seal(account=ACCOUNT, files=FILES)
    made = reseal(made, lambda content: content["objects"][2].update({field: value}))
    desk.organisation.deliver(made)
    out.mkdir()
    (out / "mine.txt").write_text("stays")
    with pytest.raises(NotVerified) as refused:
        desk.open(made.case, out)
    assert refused.value.slug == "object-differs"
    assert "Object 2" in refused.value.title
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_a_directory_under_another_root_is_refused(desk: Desk, out: Path, tmp_path: Path) -> None:
    made = desk.send(files=())
    with organisation_in(tmp_path / "other") as other, pytest.raises(NotVerified) as refused:
        desk.open(made.case, out, root=other.root)
    assert refused.value.slug.startswith("directory-")
    assert desk.requests("/openings") == []
    assert not out.exists()


def test_a_planted_link_is_neither_written_into_nor_cleared(
    desk: Desk, out: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "0.plain").write_text("kept")
    made = desk.send(files=())
    out.mkdir()
    (out / f".opening-{made.case}").symlink_to(theirs)
    with pytest.raises(Usage) as refused:
        desk.open(made.case, out)
    assert refused.value.slug == "folder-unusable"
    assert [path.name for path in theirs.iterdir()] == ["0.plain"]


# Who may


def test_a_case_of_another_desk_is_refused(desk: Desk, out: Path) -> None:
    made = desk.send(files=())
    with pytest.raises(Refused) as refused:
        desk.open(made.case, out, keys=desk.organisation.desks["general"][0])
    assert (refused.value.slug, refused.value.exit_status) == ("not-found", 1)
    assert not out.exists()


def test_a_case_that_was_sealed_to_others_is_not_there(desk: Desk, out: Path) -> None:
    colleague = desk.organisation.directory.readers_of("chemical")
    others = {one.id: one.intake_key for one in colleague if one.id != desk.reader.id}
    made = desk.send(readers=others, files=())
    with pytest.raises(Refused) as refused:
        desk.open(made.case, out)
    assert (refused.value.slug, refused.value.exit_status) == ("not-found", 1)
    assert not out.exists()


def test_a_grant_for_an_older_key_of_ones_own_is_said_to_be_so(desk: Desk, out: Path) -> None:
    made = desk.send(files=())
    renewed = replace(desk.reader, intake=PersonKeys.generate("reviewer").intake)
    with pytest.raises(NoGrant) as refused:
        desk.open(made.case, out, keys=renewed)
    assert refused.value.slug == "grant-for-other-key"


def test_a_stranger_is_not_signed_in(desk: Desk, out: Path) -> None:
    with pytest.raises(Refused) as refused:
        desk.open(random_id(), out, keys=PersonKeys.generate("reviewer"))
    assert refused.value.slug == "not-signed-in"


def test_a_reader_whom_the_directory_does_not_let_read_it_is_named(desk: Desk, out: Path) -> None:
    made = desk.send(files=())
    stranger = random_id()

    def add(event: dict[str, Any]) -> None:
        event["grants"].append({**event["grants"][0], "reader": stranger})

    desk.lying.lies[f"/v1/cases/{made.case}"] = receipted(desk, add)
    [warning] = desk.open(made.case, out).warnings
    assert stranger in warning


def test_another_version_of_the_directory_is_noted(desk: Desk, out: Path) -> None:
    made = desk.send(files=(), directory=7)
    [warning] = desk.open(made.case, out).warnings
    assert "version 7" in warning


# Networks that break


def test_a_download_goes_on_where_it_was_cut(desk: Desk, out: Path) -> None:
    made = desk.send()
    desk.lying.cuts[:] = [100, 70_000, 5000, 1]
    desk.open(made.case, out)
    assert (out / "file-2.bin").read_bytes() == FILES[1]
    ranges = [wanted for _, _, wanted in desk.requests("/objects/")]
    assert ranges == [None, "bytes=100-", None, "bytes=5000-", "bytes=5001-", None]


def test_after_a_network_that_stays_away_the_same_command_goes_on(desk: Desk, out: Path) -> None:
    made = desk.send()
    path = f"/v1/cases/{made.case}/objects/2"
    desk.lying.denials[path] = [503] * IMPATIENT.attempts
    with pytest.raises(NetworkFailed) as failed:
        desk.open(made.case, out)
    assert failed.value.exit_status == 4
    [kept] = out.iterdir()
    assert {one.name for one in kept.iterdir()} >= {"0.age", "1.age"}
    assert all(one.suffix == ".age" for one in kept.iterdir())
    assert (kept / "1.age").read_bytes() == made.sealed[0]
    desk.lying.seen.clear()
    assert len(desk.open(made.case, out).files) == 4
    assert {one for _, one, _ in desk.requests("/objects/")} == {path}
    assert not kept.exists()


def test_what_was_kept_and_then_altered_is_not_used(desk: Desk, out: Path) -> None:
    made = desk.send()
    desk.lying.denials[f"/v1/cases/{made.case}/objects/2"] = [503] * IMPATIENT.attempts
    with pytest.raises(NetworkFailed):
        desk.open(made.case, out)
    [kept] = out.iterdir()
    (kept / "1.age").write_bytes(flipped(made.sealed[0]))
    with pytest.raises(NotVerified):
        desk.open(made.case, out)
    assert list(out.iterdir()) == []
    assert len(desk.open(made.case, out).files) == 4


class Interrupting(Silent):
    """Stands for a person who presses Ctrl-C once the second object is being opened."""

    @contextmanager
    def step(self, label: str, _total: int | None = None, *, done: int = 0) -> Iterator[Advance]:  # noqa: ARG002
        yield self.interrupt if label == "Opening" else lambda _count: None

    def __init__(self) -> None:
        self.done = 0

    def interrupt(self, count: int) -> None:
        self.done += count
        if self.done > len(ACCOUNT):
            raise KeyboardInterrupt


def test_an_interrupted_opening_keeps_nothing_that_was_opened(desk: Desk, out: Path) -> None:
    made = desk.send()
    with Transport(desk.url) as transport, pytest.raises(KeyboardInterrupt):
        Reviewer(transport, desk.organisation.root, desk.reader, progress=Interrupting()).open(
            made.case, out
        )
    [kept] = out.iterdir()
    assert {path.name for path in kept.iterdir()} == {"1.age", "2.age"}
    assert len(desk.open(made.case, out).files) == 4


def test_an_opening_whose_answer_was_lost_is_signed_once(desk: Desk, out: Path) -> None:
    made = desk.send(files=())
    desk.lying.lost.add(f"/v1/cases/{made.case}/openings")
    desk.open(made.case, out)
    assert len(desk.requests("/openings")) == 2


def test_a_token_that_is_over_is_renewed_on_the_way(desk: Desk, out: Path) -> None:
    made = desk.send(files=())
    desk.lying.denials[f"/v1/cases/{made.case}/manifest"] = [401]
    desk.open(made.case, out)
    assert len(desk.requests("/v1/sessions")) == 2


def test_a_token_is_not_renewed_in_circles(desk: Desk, out: Path) -> None:
    made = desk.send(files=())
    desk.lying.denials[f"/v1/cases/{made.case}/manifest"] = [401] * 10
    with pytest.raises(Refused):
        desk.open(made.case, out)
    assert len(desk.requests("/manifest")) == 2


# Folders and names


def test_names_of_a_stranger_become_files_of_the_folder_and_nothing_else(
    desk: Desk, out: Path, tmp_path: Path
) -> None:
    names = [
        "../../escaped.txt",
        "a\u202egpj.exe",
        "x" * 255,
        "account.json",
        "CON",
        ".ssh",
        "",
        "/",
    ]
    made = desk.organisation.seal(account=ACCOUNT, files=[b"%d" % k for k in range(len(names))])

    def rename(content: dict[str, Any]) -> None:
        for item, name in zip(content["objects"][1:], names, strict=True):
            item["name"] = name

    made = reseal(made, rename)
    desk.organisation.deliver(made)
    opened = desk.open(made.case, out)
    assert opened.files[1:-1] == (
        "escaped.txt", "agpj.exe", "x" * 120, "account (2).json", "_CON", "ssh", "file", "file (2)",
    )  # fmt: skip
    assert [(out / name).read_bytes() for name in opened.files[1:-1]] == [
        b"%d" % k for k in range(len(names))
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"opened"}
    assert json.loads((out / "manifest.json").read_bytes())["objects"][1]["name"] == names[0]


def test_files_that_were_there_before_stay(desk: Desk, out: Path) -> None:
    made = desk.send()
    out.mkdir()
    (out / "FILE-1.BIN").write_text("mine")
    opened = desk.open(made.case, out)
    assert opened.files[1] == "file-1 (2).bin"
    assert (out / "FILE-1.BIN").read_text() == "mine"


@pytest.mark.parametrize("name", ["account.json", "account.raw", "manifest.json"])
def test_a_folder_with_an_opened_case_is_refused_before_anything_is_signed(
    desk: Desk, out: Path, name: str
) -> None:
    made = desk.send(files=())
    out.mkdir()
    (out / name).write_text("earlier")
    with pytest.raises(Usage) as refused:
        desk.open(made.case, out)
    assert refused.value.slug == "folder-taken"
    assert desk.lying.seen == [] or desk.requests("/openings") == []
    assert (out / name).read_text() == "earlier"


def test_a_folder_that_cannot_be_made_is_said_to_be_so(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Usage) as refused:
        desk.open(random_id(), tmp_path / "file" / "opened")
    assert refused.value.slug == "folder-unusable"


@pytest.mark.parametrize("case", ["", "x", "../../v1/cases", "A" * 32])
def test_what_is_no_case_is_not_asked_for(desk: Desk, out: Path, case: str) -> None:
    with pytest.raises(Usage):
        desk.open(case, out)
    assert desk.lying.seen == []


# The queue


def test_the_queue_is_read_to_its_end(desk: Desk) -> None:
    made = {desk.send(files=()).case for _ in range(5)}
    desk.lying.page_limit = 2
    found = [one.case for one in desk.cases("chemical", "received")]
    assert made <= set(found)
    assert len(set(found)) == len(found)
    assert len(desk.requests("/v1/cases")) >= 3


def test_the_queue_tells_sizes_and_days_and_nothing_else(desk: Desk) -> None:
    made = desk.send()
    [listed] = [one for one in desk.cases() if one.case == made.case]
    assert (listed.desk, listed.state, listed.objects) == ("chemical", "received", 3)
    assert listed.received_on == desk.organisation.clock().date().isoformat()


def test_a_desk_of_others_is_refused(desk: Desk) -> None:
    with pytest.raises(Refused) as refused:
        desk.cases("general")
    assert refused.value.slug == "not-allowed"


def test_a_name_of_a_desk_is_never_part_of_an_address(desk: Desk) -> None:
    with pytest.raises(Usage):
        desk.cases("general&limit=1")


@pytest.mark.parametrize(
    "change",
    [
        {"case": "\x1b[2J"},
        {"state": "\x1b[31mreceived"},
        {"desk": "a\nb"},
        {"received_on": "today"},
        {"objects": "3"},
        {"objects": True},
        {"size": -1},
        {"flags": [7]},
        {"flags": None},
        {"language": None},
    ],
)
def test_a_queue_that_is_not_in_its_form_reaches_no_terminal(
    desk: Desk, change: dict[str, Any]
) -> None:
    desk.send(files=())
    desk.lying.lies["/v1/cases"] = in_json(lambda document: document["cases"][0].update(change))
    with pytest.raises(ClientError) as refused:
        desk.cases()
    assert refused.value.slug == "bad-answer"


@pytest.mark.parametrize("cursor", ["a&b", "", 7, "\n"])
def test_a_cursor_that_is_not_in_its_form_is_not_followed(desk: Desk, cursor: object) -> None:
    desk.send(files=())
    desk.lying.lies["/v1/cases"] = in_json(lambda document: document.update(next=cursor))
    with pytest.raises(NotVerified):
        desk.cases()


# Keys that were replaced


TODAY = date(2026, 11, 24)
LONG_AGO = TODAY - timedelta(days=46)


@pytest.mark.parametrize(
    ("left_on", "held", "spent"),
    [
        (LONG_AGO, None, True),
        (LONG_AGO, {}, True),
        (LONG_AGO, {"elsewhere": 1}, True),
        (LONG_AGO, {"open": 1}, False),
        # Announced while the directory listed the key, and not whole yet.
        (LONG_AGO, {"arriving": 1}, False),
        (TODAY - timedelta(days=45), {}, False),
        (None, {}, False),
    ],
)
def test_a_former_key_is_spent_when_nothing_can_arrive_under_it(
    left_on: date | None, held: dict[str, int] | None, spent: bool
) -> None:
    former = FormerKey(Identity.generate(), left_on)
    keys = replace(PersonKeys.generate("reviewer"), former=(former,))
    told = {} if held is None else {former.name: HeldKey(former.name, **held)}
    assert spent_keys(keys, told, TODAY) == (frozenset({former.name}) if spent else frozenset())


@pytest.mark.parametrize("count", ["open", "arriving", "elsewhere"])
@pytest.mark.parametrize("value", ["\x1b[2J", None, 1.5, True])
def test_counts_that_are_no_numbers_do_not_reach_the_terminal(
    desk: Desk, count: str, value: object
) -> None:
    desk.send(files=())
    assert desk.held_keys()
    desk.lying.lies["/v1/intake-keys"] = in_json(
        lambda document: document["intake_keys"][0].update({count: value})
    )
    with pytest.raises(NotVerified) as refused:
        desk.held_keys()
    assert refused.value.slug == "bad-answer"
