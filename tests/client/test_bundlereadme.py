"""A stranger's journey: the bundle, the root, a shell, openssl and coreutils; nothing of ours is installed.

Whoever attacks carries the folder unpacked, so every attack lists the hashes anew: only what others signed is beyond them.
"""

import base64
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from amana.client.bundlereadme import COMMANDS, commands_of
from amana.protocol.bundle import INDEX, MANIFEST, TAG_MANIFEST, manifest_text
from amana.protocol.encoding import b64, canonical, sha256_hex, unb64
from amana.protocol.merkle import inclusion_proof
from amana.protocol.opening import make_opening
from amana.protocol.receipt import leaf, sign_receipt
from amana.protocol.sealing import Identity, seal_stream
from amana.protocol.signing import SigningKey
from amana.protocol.tlogproof import TlogProof
from tests.support.authority import Authority
from tests.support.bundles import Bundle, bundle_in, bundle_with_identity_in
from tests.support.logbook import Logbook
from tests.support.node import ask_node

SHELLS = [[path] for name in ("bash", "sh") if (path := shutil.which(name))]
if busybox := shutil.which("busybox"):
    SHELLS.append([busybox, "sh"])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    with bundle_in(tmp_path_factory.mktemp("bundle")) as made:
        yield made


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    """The bundle unpacked, beside what the officers and the authority gave out."""
    beside(tmp_path, bundle.root, certificates(bundle.authority))
    return bundle.copy(tmp_path / "bundle")


def beside(place: Path, root: bytes, authority: bytes) -> None:
    (place / "root.json").write_bytes(root)
    (place / "authority.pem").write_bytes(authority)


def certificates(authority: Authority | None) -> bytes:
    assert authority is not None
    return (authority.folder / "root.pem").read_bytes()


def stranger(folder: Path, language: str = "en") -> list[str]:
    """Type what the page of our program says, in every shell, with the system's tools alone; all say the same."""
    (folder.parent / "tmp").mkdir(exist_ok=True)
    commands = commands_of((folder / f"README.{language}.txt").read_text("utf-8"))
    assert commands == COMMANDS
    running = [
        subprocess.Popen(
            [*shell, "-c", commands],
            cwd=folder,
            env={
                "PATH": "/usr/bin:/bin",
                "LC_ALL": "C.UTF-8",
                "TMPDIR": str(folder.parent / "tmp"),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for shell in SHELLS
    ]
    said = [one.communicate(timeout=120) for one in running]
    assert {errors for _, errors in said} == {b""}
    assert len({words for words, _ in said}) == 1
    assert not list(folder.parent.rglob("PWNED*"))
    assert not list((folder.parent / "tmp").iterdir())
    words = said[0][0].decode("ascii")
    assert not re.search(r"[^ -~\n]", words)
    return words.splitlines()


def worrying(said: list[str]) -> list[str]:
    """Return what is no good news, without the verdict, which must fit it."""
    found = [one for one in said if not one.startswith(("ok ", "note ", "VERDICT"))]
    assert [one for one in said if one.startswith("VERDICT")] == said[-1:]
    word = "GOOD." if not found else "NOT ALL WAS CHECKED."
    word = "BAD." if any(one.startswith("BAD ") for one in found) else word
    assert said[-1].startswith(f"VERDICT: {word}")
    return found


def listed_anew(folder: Path) -> None:
    """Make all lists of hashes fit what lies in the folder, as everybody can who signs nothing."""
    found = {
        path.relative_to(folder).as_posix(): sha256_hex(path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }
    manifest = manifest_text({p: h for p, h in found.items() if p.startswith("data/")})
    (folder / MANIFEST).write_bytes(manifest)
    if INDEX in found:
        index = re.sub(
            r'"manifest_sha256":"[^"]*"',
            f'"manifest_sha256":"{sha256_hex(manifest)}"',
            (folder / INDEX).read_text("utf-8"),
        )
        (folder / INDEX).write_text(index, "utf-8")
    tags = {p for p in found if not p.startswith("data/")} - {TAG_MANIFEST} | {MANIFEST}
    (folder / TAG_MANIFEST).write_bytes(
        manifest_text({p: sha256_hex((folder / p).read_bytes()) for p in tags})
    )


def rewrite(folder: Path, path: str, form: str, to: str) -> None:
    """Put other words where a form fits exactly once."""
    words = (folder / path).read_text("utf-8")
    changed, count = re.subn(form, lambda _match: to, words, flags=re.MULTILINE)
    assert count == 1
    assert changed != words
    (folder / path).write_text(changed, "utf-8")


def test_the_pages_hold_the_commands_and_nothing_that_looks_like_them(bundle: Bundle) -> None:
    for name in ("README.en.txt", "README.ar.txt"):
        page = (bundle.folder / name).read_text("utf-8")
        [line] = re.findall(r"sed -n '.*' README.*", page)
        assert name in line
        written = subprocess.run(
            ["sed", "-n", re.findall("'(.*)'", line)[0], name],
            cwd=bundle.folder, capture_output=True, check=True,
        )  # fmt: skip
        assert written.stdout.decode("utf-8") == COMMANDS
        assert "docs/checking-bundles.md" in page
        for step in ("FILES", "RECEIPT", "SEALED", "CONTENT", "EVENT", "TIME", "NOT CHECKED"):
            assert re.search(rf"^ +{step} ", page, re.MULTILINE)


@pytest.mark.parametrize("language", ["en", "ar"])
def test_the_page_shows_that_everything_holds(folder: Path, language: str) -> None:
    said = stranger(folder, language)
    assert not worrying(said)
    events = sorted((folder / "data" / "custody").glob("*.event.json"))
    receipt = json.loads((folder / "data/receipt.json").read_text("utf-8"))
    about = f"case {receipt['case']}, received on {receipt['received_on']}"
    files = sum(one.is_file() for one in folder.rglob("*"))
    size = {i: (folder / "data" / "files" / i).stat().st_size for i in ("0.json", "1.bin", "3.bin")}
    stamped = stamps_said(folder)
    times = sum("STAMPED" in one for one in stamped)
    assert said == [
        f"ok FILES: {files} files, all of them listed, none altered, none missing",
        f"ok RECEIPT: signed by the service: {about}, objects: 4",
        "ok SEALED: data/sealed/0.age is what arrived",
        f"ok CONTENT: data/files/0.json is what was sealed, {size['0.json']} bytes",
        "ok SEALED: data/sealed/1.age is what arrived",
        f"ok CONTENT: data/files/1.bin is what was sealed, {size['1.bin']} bytes",
        "ok SEALED: data/sealed/2.age is what arrived",
        "note CONTENT: object 2 is closed: this bundle does not show what is in data/sealed/2.age",
        "ok SEALED: data/sealed/3.age is what arrived",
        f"ok CONTENT: data/files/3.bin is what was sealed, {size['3.bin']} bytes",
        "note OBJECTS: objects arrived: 4, open here: 3, closed: 1, left with custodians: 0",
        *(
            f"note DERIVED: data/derived/{name} was added by who made the bundle; nothing here proves what is in it"
            for name in ("0.txt", "1.jpg")
        ),
        *(
            f"ok EVENT: data/custody/{one.name} stands in the log, place {place}"
            for place, one in enumerate(events)
        ),
        f"note EVENTS: events in the log: {len(events)} of {len(events)}",
        *stamped,
        f"note TIMES: events with a time: {times} of {len(events)}",
        f"VERDICT: GOOD. C{about[1:]}; objects arrived: 4, open here: 3, closed: 1, left with custodians: 0;"
        f" events in the log: {len(events)} of {len(events)}, with a time: {times}",
    ]


def stamps_said(folder: Path) -> list[str]:
    """Return what is said of stamps that hold: the time, as openssl shows it, and which events had come."""
    said = []
    for place in sorted((folder / "data" / "stamps").iterdir()):
        path = place.relative_to(folder)
        shown = subprocess.run(
            ["openssl", "ts", "-reply", "-in", place / "clock.tsr", "-text"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        [at] = [x for x in shown.splitlines() if x.startswith("Time stamp: ")]
        said.append(f"ok TIME: {path}/clock.tsr says {at.removeprefix('Time stamp: ')}")
        said += [
            f"ok STAMPED: data/custody/{one.stem}.event.json by {path}"
            for one in sorted(place.glob("*.proof"))
        ]
    assert len(said) > 4
    return said


def test_the_page_shows_what_custodians_released_or_keep(
    tmp_path: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    beside(tmp_path, b"", certificates(bundle.authority))
    with bundle_with_identity_in(tmp_path_factory.mktemp("identity")) as released:
        (tmp_path / "root.json").write_bytes(released.root)
        folder = released.copy(tmp_path / "bundle")
    said = stranger(folder)
    assert not worrying(said)
    assert "objects arrived: 4, open here: 4, closed: 0, left with custodians: 0;" in said[-1]
    assert "note TIME: the bundle holds no time stamp; only the service says when it came" in said
    for path in ("data/sealed/2.age", "data/openings/2.json", "data/files/2.bin"):
        (folder / path).unlink()
    rewrite(folder, INDEX, r'\{"i":2,[^}]*\},', "")
    listed_anew(folder)
    said = stranger(folder)
    assert not worrying(said)
    assert "note SEALED: object 2 was sealed for the custodians and is not in this bundle" in said
    assert "objects arrived: 4, open here: 3, closed: 0, left with custodians: 1;" in said[-1]


@pytest.mark.parametrize("language", ["en", "ar"])
def test_a_first_look_tells_whether_the_files_fit_their_lists(folder: Path, language: str) -> None:
    page = (folder / f"README.{language}.txt").read_text("utf-8")
    [command] = re.findall(r"^  (sha256sum -c .*)$", page, re.MULTILINE)

    def look() -> subprocess.CompletedProcess[str]:
        shell = ["/bin/sh", "-c", command]
        return subprocess.run(shell, cwd=folder, capture_output=True, text=True, check=False)

    assert look().stdout == "whole\n"
    altered = folder / "data" / "receipt.json"
    altered.write_bytes(altered.read_bytes() + b" ")
    assert "data/receipt.json: FAILED" in look().stdout
    assert "whole" not in look().stdout


@pytest.mark.parametrize("language", ["en", "ar"])
def test_the_sealed_bundle_opens_with_other_tools_as_the_page_says(
    bundle: Bundle, tmp_path: Path, language: str
) -> None:
    """The JavaScript implementation of age stands in for the program, which no system has in this version yet."""
    sealed = b64(bundle.made.file.read_bytes())
    task = {"task": "open", "identity": str(bundle.partner.intake), "sealed": sealed}
    [opened] = ask_node("age.mjs", [task])
    plain, program = tmp_path / "opened", tmp_path / "bin" / "age"
    plain.write_bytes(unb64(opened["data"]))
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$*" = "-d -i KEY FILE" ] && cat {plain}\n')
    program.chmod(0o700)
    page = (bundle.folder / f"README.{language}.txt").read_text("utf-8")
    [command] = re.findall(r"age -d -i KEY FILE[ |a-z+0-9-]*", page)
    subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=tmp_path,
        env={"PATH": f"{program.parent}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        check=True,
        timeout=60,
    )
    folder = tmp_path / "amana-bundle"
    assert {
        one.relative_to(folder).as_posix(): one.read_bytes()
        for one in folder.rglob("*")
        if one.is_file()
    } == {path: (bundle.folder / path).read_bytes() for path in bundle.paths}
    beside(tmp_path, bundle.root, certificates(bundle.authority))
    assert not worrying(stranger(folder, language))


# What is run


def event(number: int) -> str:
    return (
        f"BAD EVENT: data/custody/{number:05d}.event.json is not shown to stand in the log:"
        " a file of it is missing or altered"
    )


def not_stamped(number: int, folder: int = 1) -> str:
    return (
        f"BAD STAMPED: data/stamps/{folder}/{number:05d}.proof does not show that"
        f" data/custody/{number:05d}.event.json was there"
    )


def orphans(*paths: str) -> list[str]:
    return [
        f"BAD OBJECTS: data/{path} belongs to nothing that arrived or is listed as open"
        for path in sorted(paths)
    ]


def not_checked(path: str) -> str:
    number = path.removeprefix("files/").partition(".")[0]
    return f"NOT CHECKED CONTENT: data/{path}, for want of what arrived as data/sealed/{number}.age"


def no_opening(number: int) -> str:
    return f"BAD CONTENT: data/openings/{number}.json is missing, or not in its form"


def unlisted(number: int) -> str:
    return f"BAD INDEX: bundle.json does not list object {number} as it should"


ARRIVAL = "BAD EVENT: the arrival of which the receipt tells is not among the events"
MISSING_1 = "BAD SEALED: data/sealed/1.age is missing; object 1 arrived"
REPLACED_1 = ["BAD SEALED: data/sealed/1.age is not what arrived", not_checked("files/1.bin")]
CONTENT = "BAD CONTENT: data/files/1.bin is not what was sealed in data/sealed/1.age: altered, cut or longer"
OPEN_3 = orphans("files/3.bin", "openings/3.json")
OPEN_1 = orphans("files/1.bin", "openings/1.json")
INDEX_FORM = [
    "BAD INDEX: bundle.json is missing, or not in its form",
    "NOT CHECKED ALL ELSE: without bundle.json nothing tells what is open and what is closed",
]
NOTHING_READ = "NOT CHECKED ALL ELSE: in such a folder nothing more is read"
RECEIPT = [
    "BAD RECEIPT: data/receipt.json is missing, altered, or signed by another service than that of ../root.json",
    "NOT CHECKED ALL ELSE: without the receipt nothing tells what arrived",
]
RUN = "x[$(touch PWNED; touch ../PWNED)0]"
"""A subscript, which a shell that counts with it runs."""


@pytest.mark.parametrize(
    "changes",
    [
        [
            ("data/custody/00001.proof", "^index .*$", f"index {RUN}", [event(1), ARRIVAL]),
            ("data/custody/00002.proof", "^index .*$", "index $(touch PWNED)", [event(2)]),
            ("data/custody/00003.proof", "^index .*$", "index 02", [event(3)]),
            ("data/custody/00004.proof", "^index .*$", "index -1", [event(4)]),
            ("data/custody/00005.proof", "^index .*$", "index 99999999999999999999", [event(5)]),
            ("data/custody/00006.proof", "^[0-9]+$", RUN, [event(6)]),
            ("data/custody/00007.proof", "^[0-9]+$", "0", [event(7)]),
            ("data/custody/00008.proof", "^[0-9]+$", "010", [event(8)]),
            ("data/stamps/1/00002.proof", "^index .*$", f"index {RUN}", [not_stamped(2)]),
            ("data/stamps/1/00003.proof", "^[0-9]+$", RUN, [not_stamped(3)]),
        ],
        [
            ("data/custody/00002.key", "^.+$", f"{RUN:64}", [event(2), not_stamped(2)]),
            ("data/custody/00003.key", "^.+$", "0" * 64, [event(3), not_stamped(3)]),
            ("data/custody/00005.proof", "^amana-demo/custody$", "x/custody", [event(5)]),
            ("data/openings/0.json", '"len":[0-9]+', f'"len":{RUN}', [no_opening(0)]),
            ("data/openings/1.json", '"file_key":"[^"]*"', f'"file_key":"{RUN}"', [no_opening(1)]),
            (INDEX, '"data/files/3.bin"', '"data/files/$(touch PWNED)"', [unlisted(3), *OPEN_3]),
        ],
        [
            (INDEX, '"data/files/3.bin"', '"../root.json"', [unlisted(3), *OPEN_3]),
            (INDEX, '"data/files/1.bin"', '"data/files/3.bin"', [unlisted(1), *OPEN_1]),
        ],
        [(INDEX, '"directory":[0-9]+', f'"directory":{RUN}', INDEX_FORM)],
        [("data/receipt.json", '"i":1,', f'"i":{RUN},', RECEIPT)],
    ],
)
def test_nothing_in_a_bundle_is_run_or_counted_with(
    folder: Path, changes: list[tuple[str, str, str, list[str]]]
) -> None:
    for path, form, to, _ in changes:
        rewrite(folder, path, form, to)
    listed_anew(folder)
    assert sorted(worrying(stranger(folder))) == sorted(x for *_, told in changes for x in told)


def test_a_name_that_is_none_of_ours_is_told_and_never_used(folder: Path) -> None:
    names = (
        "-rf", "$(touch PWNED)", "`touch PWNED`", "a b", "*", ".1.bin", "1.bin\nok FILES: whole", "\x1b[2J", "é",
    )  # fmt: skip
    for name in names:
        (folder / "data" / "files" / name).write_bytes(b"x")
        with (folder / MANIFEST).open("ab") as listed:
            listed.write(f"{'0' * 64}  data/files/{name}\n".encode())
    shown = (re.sub(rb"[^ -~]", b"?", name.encode("utf-8")).decode("ascii") for name in names)
    assert sorted(worrying(stranger(folder))) == sorted(
        [
            *(
                f"BAD FILES: ./data/files/{x} has a name that nothing in a bundle has"
                for x in shown
            ),
            NOTHING_READ,
        ]
    )


def test_a_list_of_hashes_is_compared_and_never_obeyed(folder: Path) -> None:
    """It may hold options, escapes, and names that are elsewhere."""
    with (folder / MANIFEST).open("ab") as listed:
        listed.write(b"-rf\n" + f"\\{'0' * 64}  a\\nok FILES\n{'0' * 64}  ../$(id)\x1b\n".encode())
    said = worrying(stranger(folder))
    assert said[0] == f"BAD FILES: {MANIFEST} is not the list of what is here"
    assert f"BAD FILES: {MANIFEST} was altered, or is not listed" in said


# What is proven


def cut(folder: Path) -> None:
    """Leave a part of a file, and say so in its opening."""
    content = (folder / "data/files/1.bin").read_bytes()[:1000]
    (folder / "data/files/1.bin").write_bytes(content)
    rewrite(folder, "data/openings/1.json", '"len":[0-9]+', '"len":1000')
    rewrite(folder, "data/openings/1.json", '"sha256":"[^"]*"', f'"sha256":"{sha256_hex(content)}"')


def lengthened(folder: Path) -> None:
    content = (folder / "data/files/1.bin").read_bytes() + b"\0"
    (folder / "data/files/1.bin").write_bytes(content)


def forged(folder: Path) -> None:
    """Put another sealed file in the place of one, with content and opening that fit it."""
    identity, content, sealed = Identity.generate(), b"FORGED CONFESSION " * 5000, io.BytesIO()
    seal_stream(io.BytesIO(content), sealed, identity.recipient, len(content))
    sealed.seek(0)
    opening = make_opening(
        sealed,
        identity,
        sealed_sha256=sha256_hex(sealed.getvalue()),
        sha256=sha256_hex(content),
        length=len(content),
    )
    (folder / "data/sealed/1.age").write_bytes(sealed.getvalue())
    (folder / "data/files/1.bin").write_bytes(content)
    (folder / "data/openings/1.json").write_bytes(bytes(opening))


def forged_hash(folder: Path) -> str:
    return sha256_hex((folder / "data/sealed/1.age").read_bytes())


def smuggled(folder: Path) -> None:
    """Put the hash of a forged file into the receipt's signature, which signs itself not."""
    forged(folder)
    rewrite(
        folder,
        "data/receipt.json",
        r'"sig":"([^"]*)',
        f'"sig":"{sig(folder)},{forged_hash(folder)}',
    )


def smuggled_before(folder: Path) -> None:
    forged(folder)
    rewrite(folder, "data/receipt.json", r"\A\{", f'{{"a":"{forged_hash(folder)}",')


def smuggled_line(folder: Path) -> None:
    """Put a line before the one that is signed, of the same form."""
    forged(folder)
    path = folder / "data/receipt.json"
    true = path.read_text("utf-8")
    false = re.sub(r'("i":1,"sealed_sha256":")[0-9a-f]{64}', rf"\g<1>{forged_hash(folder)}", true)
    path.write_text(f"{false}\n{true}", "utf-8")


def replaced_in_receipt(folder: Path) -> None:
    forged(folder)
    rewrite(
        folder, "data/receipt.json",
        r'"i":1,"sealed_sha256":"[0-9a-f]{64}', f'"i":1,"sealed_sha256":"{forged_hash(folder)}',
    )  # fmt: skip


def sig(folder: Path) -> str:
    return str(json.loads((folder / "data/receipt.json").read_bytes())["sig"])


def other_key(folder: Path) -> None:
    """Give another key for a sealed file: it opens to another text that fits the opening."""
    rewrite(folder, "data/openings/1.json", '"file_key":"[^"]*"', f'"file_key":"{b64(bytes(16))}"')


def bytes_of(path: str) -> Callable[[Path], None]:
    """Turn over a bit of a file."""

    def alter(folder: Path) -> None:
        data = bytearray((folder / path).read_bytes())
        data[-2] ^= 1
        (folder / path).write_bytes(bytes(data))

    return alter


def without(*paths: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for path in paths:
            place = folder / path
            shutil.rmtree(place) if place.is_dir() else place.unlink()

    return remove


def also(path: str) -> Callable[[Path], None]:
    def add(folder: Path) -> None:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(b"forged photo")

    return add


def without_object(folder: Path) -> None:
    without("data/files/1.bin", "data/sealed/1.age", "data/openings/1.json")(folder)


def without_object_and_entry(folder: Path) -> None:
    without_object(folder)
    rewrite(folder, INDEX, r'\{"i":1,[^}]*\},', "")


def as_closed(folder: Path) -> None:
    rewrite(folder, INDEX, '"data/files/1.bin"', "null")


def one_object_more(folder: Path) -> None:
    rewrite(
        folder, INDEX, r'"data/files/3.bin"\}',
        '"data/files/3.bin"},{"i":7,"mime":"image/jpeg","path":"data/files/7.jpg"}',
    )  # fmt: skip
    also("data/files/7.jpg")(folder)


def event_twice(folder: Path) -> None:
    last = len(list((folder / "data/custody").glob("*.key")))
    for end in ("event.json", "key", "proof"):
        shutil.copy(
            folder / f"data/custody/00002.{end}", folder / f"data/custody/{last + 1:05d}.{end}"
        )


def another_length(folder: Path) -> None:
    rewrite(folder, "data/openings/1.json", '"len":[0-9]+', '"len":160001')


@pytest.mark.parametrize(
    "attacks",
    [
        [(cut, [CONTENT])],
        [(lengthened, [CONTENT])],
        [(forged, REPLACED_1)],
        [(smuggled, RECEIPT)],
        [(smuggled_before, RECEIPT)],
        [(smuggled_line, RECEIPT)],
        [(replaced_in_receipt, RECEIPT)],
        [(without("data/receipt.json"), RECEIPT)],
        [(without(INDEX), INDEX_FORM)],
        [
            (bytes_of("data/files/1.bin"), [CONTENT]),
            (bytes_of("data/sealed/0.age"), [
                "BAD SEALED: data/sealed/0.age is not what arrived", not_checked("files/0.json"),
            ]),
            (bytes_of("data/custody/00002.event.json"), [event(2), not_stamped(2)]),
            (bytes_of("data/custody/00003.proof"), [event(3)]),
            (without("data/custody/00004.proof"), [event(4)]),
        ],
        [
            (other_key, [
                "BAD CONTENT: the key in data/openings/1.json does not fit data/sealed/1.age",
            ]),
            (without("data/files/3.bin"), ["BAD CONTENT: data/files/3.bin is missing"]),
            (without("data/openings/0.json"), [no_opening(0)]),
        ],
        [
            (another_length, [
                "BAD OPENING: data/openings/1.json names another length or hash than that of data/files/1.bin,"
                " which is what was sealed",
            ]),
            (event_twice, ["BAD EVENT: data/custody/00009.event.json is not in the order of the log"]),
        ],
        [
            (without_object, [MISSING_1, not_checked("files/1.bin")]),
            (without(*(f"data/custody/00003.{end}" for end in ("event.json", "key", "proof"))), [
                "BAD EVENT: event 00003 is missing; the numbers have a gap", not_stamped(3),
            ]),
        ],
        [(without_object_and_entry, [MISSING_1, unlisted(1)]), (without("data/custody", "data/stamps"), [ARRIVAL])],
        [(without("data/sealed", "data/openings"), [
            *(f"BAD SEALED: data/sealed/{i}.age is missing; object {i} arrived" for i in range(4)),
            *(not_checked(f"files/{one}") for one in ("0.json", "1.bin", "3.bin")),
        ])],
        [
            (as_closed, OPEN_1),
            (one_object_more, [
                "BAD INDEX: bundle.json lists object 7, which never arrived", *orphans("files/7.jpg"),
            ]),
            (also("data/files/4.jpg"), orphans("files/4.jpg")),
            (also("data/files/3.jpg"), orphans("files/3.jpg")),
            (also("data/sealed/4.age"), orphans("sealed/4.age")),
            (also("data/openings/2.json"), orphans("openings/2.json")),
            (also("data/more/1.jpg"), ["BAD FILES: data/more/1.jpg does not belong into a bundle"]),
            (also("data/stamps/2/x.tsr"), ["BAD TIME: data/stamps/2/x.tsr does not hold"]),
            (also("check-bundle.sh"), ["BAD FILES: check-bundle.sh does not belong into a bundle"]),
            (without("data/stamps/1/checkpoint"), [
                "BAD TIME: data/stamps/1 lacks a part of a time stamp",
                "BAD TIME: data/stamps/1/clock.tsr does not hold",
                *(f"BAD STAMPED: data/stamps/1/{n:05d}.proof is of another checkpoint" for n in range(1, 6)),
            ]),
        ],
    ],
)  # fmt: skip
def test_the_right_step_names_what_was_done(
    folder: Path, attacks: list[tuple[Callable[[Path], None], list[str]]]
) -> None:
    for attack, _ in attacks:
        attack(folder)
    listed_anew(folder)
    told = sorted(line for _, lines in attacks for line in lines)
    assert sorted(worrying(stranger(folder))) == told


def test_what_was_not_listed_anew_is_named(folder: Path) -> None:
    bytes_of("data/policies/0.json")(folder)
    also("data/files/4.jpg")(folder)
    without("data/policies/1.json", "bagit.txt")(folder)
    said = worrying(stranger(folder))
    assert [one for one in said if one.startswith("BAD FILES")] == [
        f"BAD FILES: {MANIFEST} is not the list of what is here",
        "BAD FILES: data/files/4.jpg was altered, or is not listed",
        "BAD FILES: data/policies/0.json was altered, or is not listed",
        "BAD FILES: data/policies/1.json is listed and missing",
        f"BAD FILES: {TAG_MANIFEST} is not the list of what is here",
        "BAD FILES: bagit.txt is listed and missing",
    ]
    without(MANIFEST, TAG_MANIFEST)(folder)
    said = worrying(stranger(folder))
    assert f"BAD FILES: {MANIFEST} is missing" in said
    assert f"BAD FILES: {TAG_MANIFEST} is missing" in said


def linked_too(folder: Path) -> str:
    (folder / "data/files/9.txt").symlink_to("/etc/hostname")
    return "data/files/9.txt"


def linked_instead(folder: Path) -> str:
    shutil.move(folder / "data/files/1.bin", folder.parent / "outside")
    (folder / "data/files/1.bin").symlink_to("../../../outside")
    return "data/files/1.bin"


def linked_folder(folder: Path) -> str:
    shutil.move(folder / "data/files", folder.parent / "outside")
    (folder / "data/files").symlink_to("../../outside")
    return "data/files"


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "data/files/9.txt")
    return "data/files/9.txt"


@pytest.mark.parametrize("attack", [linked_too, linked_instead, linked_folder, pipe])
def test_what_is_no_plain_file_is_never_opened(folder: Path, attack: Callable[[Path], str]) -> None:
    path = attack(folder)
    assert worrying(stranger(folder)) == [
        f"BAD FILES: ./{path} is a link, or something else that is no file",
        NOTHING_READ,
    ]


@pytest.mark.parametrize(
    "content", [None, b"", b"<html>404</html>", b'{"custody_log":{"key":"x"}}']
)
def test_a_missing_root_is_said_and_accuses_nothing(folder: Path, content: bytes | None) -> None:
    (folder.parent / "root.json").unlink()
    if content is not None:
        (folder.parent / "root.json").write_bytes(content)
    assert worrying(stranger(folder)) == [
        "NOT CHECKED ALL ELSE: there is no root file at ../root.json. Get it from the officers;"
        " this says nothing against the bundle"
    ]


def test_a_missing_certificate_is_said_and_accuses_nothing(folder: Path) -> None:
    (folder.parent / "authority.pem").unlink()
    assert worrying(stranger(folder)) == [
        "NOT CHECKED TIME: there is no certificate at ../authority.pem. Get it from the authority;"
        " this says nothing against the bundle"
    ]


def test_another_folder_or_system_is_said_and_accuses_nothing(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    shutil.copy(folder / "README.en.txt", empty)
    assert worrying(stranger(empty)) == [
        "NOT CHECKED ALL: there is no bundle in this folder; go into the folder of its README"
    ]
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("mktemp", "grep", "tr", "rm", "cut", "od"):
        (tools / name).symlink_to(shutil.which(name) or name)
    done = subprocess.run(
        ["/bin/sh", "-c", COMMANDS],
        cwd=folder, env={"PATH": str(tools)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert worrying(done.stdout.splitlines()) == [
        "NOT CHECKED ALL: this system lacks GNU coreutils or OpenSSL 3; this says nothing against the bundle"
    ]


def test_the_root_of_another_service_shows_no_receipt(folder: Path) -> None:
    from tests.support.ceremony import Ceremony

    (folder.parent / "root.json").write_bytes(Ceremony().first_root.to_bytes())
    assert worrying(stranger(folder)) == RECEIPT


# A log of our own


class OwnLog:
    """The same bundle under a log whose key we hold, in which the events stand anywhere."""

    def __init__(self, folder: Path, before: int = 0, after: int = 0) -> None:
        self.folder = folder
        self.log = Logbook("amana-demo/custody", SigningKey.generate())
        pins = {"key": self.log.key.public, "origin": self.log.origin}
        root = json.dumps({"signed": {"x-amana": {"custody_log": pins}}}, indent=1)
        (folder.parent / "root.json").write_text(root, "utf-8")
        receipt = json.loads((folder / "data/receipt.json").read_bytes())
        signed = sign_receipt(self.log.key, receipt["event"], unb64(receipt["key"]))
        (folder / "data/receipt.json").write_bytes(canonical(signed))
        shutil.rmtree(folder / "data/stamps")
        self.events = sorted((folder / "data/custody").glob("*.event.json"))
        self.before = before
        self.log.add(*(bytes([i]) * 32 for i in range(before)))
        self.log.add(*map(self._leaf, self.events))
        self.log.add(*(bytes([100 + i]) * 32 for i in range(after)))

    def _leaf(self, event: Path) -> bytes:
        key = event.with_name(event.name.replace("event.json", "key")).read_text("ascii")
        return leaf(event.read_bytes(), bytes.fromhex(key))

    def prove(self) -> None:
        note, size = self.log.checkpoint(), len(self.log.entries)
        for i, event in enumerate(self.events, self.before):
            proof = TlogProof(i, tuple(inclusion_proof(self.log.read, i, size)), note)
            event.with_name(event.name.replace("event.json", "proof")).write_bytes(bytes(proof))
        listed_anew(self.folder)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (13, 30)])
def test_an_event_is_found_at_any_place_of_a_log_of_any_size(
    folder: Path, before: int, after: int
) -> None:
    own = OwnLog(folder, before, after)
    own.prove()
    assert not worrying(stranger(folder))
    # The proof of the place beside it.
    shutil.copy(folder / "data/custody/00004.proof", folder / "data/custody/00003.proof")
    listed_anew(folder)
    assert worrying(stranger(folder)) == [event(3)]


def test_an_event_of_another_case_is_told(folder: Path) -> None:
    change = folder / "data/custody/00003.event.json"
    change.write_text(
        re.sub('"case":"[^"]*"', f'"case":"{"a" * 32}"', change.read_text("utf-8")), "utf-8"
    )
    OwnLog(folder).prove()
    assert worrying(stranger(folder)) == [
        "BAD EVENT: data/custody/00003.event.json is about another case"
    ]


def test_an_event_of_another_log_is_left_open(folder: Path) -> None:
    own = OwnLog(folder)
    own.log.origin = "amana-demo/custody-2"
    own.prove()
    assert worrying(stranger(folder)) == [
        f"NOT CHECKED EVENT: data/custody/{one.name} is shown in another log than the one that ../root.json names"
        for one in own.events
    ]


# Times


def test_stamps_of_another_authority_do_not_count(folder: Path, tmp_path: Path) -> None:
    other = certificates(Authority(tmp_path / "other"))
    (tmp_path / "authority.pem").write_bytes(other)
    said = stranger(folder)
    assert not worrying(said)
    path = "data/stamps/1/clock.tsr"
    assert (
        f"note TIME: {path} is of another authority than ../authority.pem, and does not count"
        in said
    )
    assert not [one for one in said if one.startswith(("ok TIME", "ok STAMPED"))]
    assert said[-1].endswith("with a time: 0")


def test_a_stamp_of_another_checkpoint_does_not_hold(folder: Path) -> None:
    path = "data/stamps/1/clock.tsr"
    (folder / path).write_bytes((folder / "data/stamps/2/clock.tsr").read_bytes())
    listed_anew(folder)
    assert worrying(stranger(folder)) == [f"BAD TIME: {path} does not hold"]


def test_a_checkpoint_that_never_held_an_event_shows_no_time(folder: Path) -> None:
    """The stamp is good with it."""
    for name in ("checkpoint", "clock.tsr", "clock.pem"):
        shutil.copy(folder / "data/stamps/2" / name, folder / "data/stamps/1" / name)
    listed_anew(folder)
    assert worrying(stranger(folder)) == [
        f"BAD STAMPED: data/stamps/1/{n:05d}.proof is of another checkpoint" for n in range(1, 6)
    ]


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def test_a_time_is_read_from_what_the_authority_signed(folder: Path) -> None:
    """Words of the status stand beside it, and nobody signs them."""
    before = stranger(folder)
    path = folder / "data/stamps/1/clock.tsr"
    answer = path.read_bytes()
    granted = der(0x30, der(0x02, b"\0"))
    assert answer[:2] == b"\x30\x82"
    assert granted in answer[4:20]
    token = answer[answer.index(granted) + len(granted) :]
    words = der(0x0C, b"x\nTime stamp: Jan  1 00:00:00 2020 GMT\n")
    path.write_bytes(der(0x30, der(0x30, der(0x02, b"\0"), der(0x30, words)), token))
    listed_anew(folder)
    assert stranger(folder) == before


def test_a_stamp_is_judged_at_its_own_time(tmp_path: Path) -> None:
    [vectors] = (Path(__file__).parents[1] / "vectors").glob("timestamps.json")
    vector = json.loads(vectors.read_text("utf-8"))["expired_since"]
    place = tmp_path / "bundle" / "data" / "stamps" / "1"
    place.mkdir(parents=True)
    (place / "checkpoint").write_text(vector["stamped"], "utf-8")
    (place / "clock.tsr").write_bytes(base64.b64decode(vector["response"]))
    (place / "clock.pem").write_text(vector["chain"], "ascii")
    (tmp_path / "authority.pem").write_text(vector["root"], "ascii")
    step = f"T={tmp_path}; stamp data/stamps/1 data/stamps/1/clock.tsr"
    done = subprocess.run(
        ["/bin/sh", "-c", COMMANDS.removesuffix("check_bundle\n") + step],
        cwd=tmp_path / "bundle",
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("ok TIME: data/stamps/1/clock.tsr says ")
