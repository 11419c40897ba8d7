"""A stranger's journey: the bundle, the root, a shell, openssl and coreutils; nothing of ours is installed."""

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from amana.client.bundlereadme import STAMPS, commands_of
from amana.protocol.encoding import b64, unb64
from tests.support.authority import Authority
from tests.support.bundles import Bundle, bundle_in
from tests.support.node import ask_node


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    with bundle_in(tmp_path_factory.mktemp("bundle")) as made:
        yield made


def stranger(folder: Path, root: bytes, language: str = "en", authority: bytes = b"") -> list[str]:
    """Type what the page says, in a shell that knows the system's tools alone."""
    (folder.parent / "root.json").write_bytes(root)
    if authority:
        (folder.parent / "authority.pem").write_bytes(authority)
    page = (folder / f"README.{language}.txt").read_text("utf-8")
    done = subprocess.run(
        ["/bin/sh", "-c", commands_of(page)],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TMPDIR": str(folder.parent)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout.splitlines()


def certificates(authority: Authority) -> bytes:
    return (authority.folder / "root.pem").read_bytes()


@pytest.mark.parametrize("language", ["en", "ar"])
def test_the_page_shows_that_everything_holds(
    bundle: Bundle, tmp_path: Path, language: str
) -> None:
    folder = bundle.copy(tmp_path / "bundle")
    said = stranger(folder, bundle.root, language, certificates(bundle.authority))
    events = len(list((folder / "data" / "custody").glob("*.event.json")))
    assert said == [
        "FILES: whole",
        *(f"SEALED: data/sealed/{i}.age arrived as it is" for i in range(4)),
        *(f"CONTENT: data/files/{i} is what was sealed" for i in ("0.json", "1.bin", "3.bin")),
        "RECEIPT: signed by the service",
        *(
            f"EVENT: data/custody/{i:05d}.event.json stands in the log"
            for i in range(1, events + 1)
        ),
        *stamps_said(folder),
    ]
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "authority.pem", "bundle", "root.json",
    ]  # fmt: skip


def stamps_said(folder: Path) -> list[str]:
    """Return what the page says of stamps that hold: the time, as openssl shows it, and which events had come."""
    said = []
    for place in sorted((folder / "data" / "stamps").iterdir()):
        path = place.relative_to(folder)
        shown = subprocess.run(
            ["openssl", "ts", "-reply", "-in", place / "clock.tsr", "-text"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        [at] = [x for x in shown.splitlines() if x.startswith("Time stamp: ")]
        said.append(f"TIME: {path}/clock.tsr says {at.removeprefix('Time stamp: ')}")
        said += [
            f"STAMPED: data/custody/{one.stem}.event.json by {path}"
            for one in sorted(place.glob("*.proof"))
        ]
    assert len(said) > 4
    return said


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
    assert stranger(folder, bundle.root, language)[0] == "FILES: whole"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("data/files/1.bin", "CONTENT: data/files/1.bin IS ANOTHER"),
        ("data/sealed/1.age", "SEALED: data/sealed/1.age IS ANOTHER"),
        ("data/custody/00001.event.json", "EVENT: data/custody/00001.event.json DOES NOT"),
        ("data/custody/00001.key", "EVENT: data/custody/00001.event.json DOES NOT"),
    ],
)
def test_the_page_shows_what_was_altered(
    bundle: Bundle, tmp_path: Path, path: str, told: str
) -> None:
    folder = bundle.copy(tmp_path / "bundle")
    data = bytearray((folder / path).read_bytes())
    data[-2] ^= 1
    (folder / path).write_bytes(bytes(data))
    said = stranger(folder, bundle.root)
    assert "FILES: whole" not in said
    assert told in said


def test_the_page_shows_a_key_that_does_not_fit_the_header(bundle: Bundle, tmp_path: Path) -> None:
    folder = bundle.copy(tmp_path / "bundle")
    opening, other = (folder / "data" / "openings" / f"{i}.json" for i in (0, 1))
    opening.write_bytes(other.read_bytes())
    assert "CONTENT: 0 THE KEY DOES NOT FIT" in stranger(folder, bundle.root)


def test_the_page_shows_a_receipt_that_nobody_signed(bundle: Bundle, tmp_path: Path) -> None:
    from tests.support.ceremony import Ceremony

    folder = bundle.copy(tmp_path / "bundle")
    said = stranger(folder, Ceremony().first_root.to_bytes())
    assert "RECEIPT: signed by the service" not in said
    assert not [one for one in said if one.endswith("stands in the log")]


def test_the_page_shows_stamps_that_do_not_hold(bundle: Bundle, tmp_path: Path) -> None:
    other = certificates(Authority(tmp_path / "other"))
    folder = bundle.copy(made(tmp_path / "untrusted"))
    path = "data/stamps/1/clock.tsr"
    said = stranger(folder, bundle.root, authority=other)
    assert f"TIME: {path} DOES NOT HOLD under ../authority.pem" in said
    assert not [one for one in said if one.startswith("TIME") and "says" in one]
    # A stamp of another checkpoint, which is good where it belongs.
    folder = bundle.copy(made(tmp_path / "moved"))
    (folder / path).write_bytes((folder / "data/stamps/2/clock.tsr").read_bytes())
    trusted = certificates(bundle.authority)
    said = stranger(folder, bundle.root, authority=trusted)
    assert f"TIME: {path} DOES NOT HOLD under ../authority.pem" in said
    # A checkpoint with which the stamp is good, and that never held the event.
    folder = bundle.copy(made(tmp_path / "other-tree"))
    for name in ("checkpoint", "clock.tsr", "clock.pem"):
        (folder / "data/stamps/1" / name).write_bytes(
            (folder / "data/stamps/2" / name).read_bytes()
        )
    said = stranger(folder, bundle.root, authority=trusted)
    assert "STAMPED: data/custody/00001.event.json IS NOT by data/stamps/1" in said


def test_the_page_judges_a_stamp_at_its_own_time(tmp_path: Path) -> None:
    [vectors] = (Path(__file__).parents[1] / "vectors").glob("timestamps.json")
    vector = json.loads(vectors.read_text("utf-8"))["expired_since"]
    place = tmp_path / "bundle" / "data" / "stamps" / "1"
    place.mkdir(parents=True)
    (place / "checkpoint").write_text(vector["stamped"], "utf-8")
    (place / "clock.tsr").write_bytes(base64.b64decode(vector["response"]))
    (place / "clock.pem").write_text(vector["chain"], "ascii")
    (tmp_path / "authority.pem").write_text(vector["root"], "ascii")
    done = subprocess.run(
        ["/bin/sh", "-c", f"T={tmp_path}; AUTHORITY=../authority.pem\n{STAMPS}"],
        cwd=tmp_path / "bundle",
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("TIME: data/stamps/1/clock.tsr says ")


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder / "bundle"
