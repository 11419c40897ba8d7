"""The commands of reviewers, as a person types them."""

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Timestamp

from amana.client.keyfile import read_key
from amana.client.officer import tuf_signer
from amana.protocol.directory import fingerprint
from amana.protocol.signing import SigningKey
from tests.support.server import AMANA, PASSPHRASE, Service, amana, free_port, wait_until
from tests.support.testimonies import Made
from tests.support.uploads import Client


@pytest.fixture(scope="module")
def client(service: Service, root: Path) -> Iterator[Client]:
    client = Client(service.url, root, service.data / "objects")
    yield client
    client.http.close()


@pytest.fixture
def made(client: Client) -> Made:
    made = client.testimony()
    assert client.submit(made).status_code == 201
    return made


@pytest.fixture
def env(service: Service, root: Path, made: Made, tmp_path: Path) -> dict[str, str]:
    reader = json.loads(made.submission.labels)[0]["reader"]
    return {
        "AMANA_SERVER": service.url,
        "AMANA_ROOT": str(root),
        "AMANA_KEY": str(service.folder / "demo" / "reviewers" / f"{reader}.key"),
        "AMANA_DIRECTORY_CACHE": str(tmp_path / "cache"),
    }


def test_keys_are_made_on_this_device_and_only_what_is_public_is_shown(tmp_path: Path) -> None:
    done = amana("reviewer", "init", "--out", tmp_path, "--json")
    shown = json.loads(done.stdout)
    path = Path(shown["key"])
    keys = read_key(path, PASSPHRASE)
    assert path.name == f"{keys.id}.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert shown["public"]["signing_key"] == keys.signing.public
    assert shown["public"]["intake_key"] == str(keys.intake_recipient)
    assert shown["fingerprint"] == fingerprint(shown["public"])
    assert "SECRET" not in done.stdout + done.stderr


def test_what_to_do_after_making_keys_works_and_keeps_the_token_out_of_the_command(
    service: Service, env: dict[str, str], tmp_path: Path
) -> None:
    del env["AMANA_KEY"]
    made = amana("reviewer", "init", "--out", tmp_path / "my keys", env=env)
    [line] = [one for one in made.stderr.splitlines() if one.startswith("    amana ")]
    filled = {"URL": service.url, "ROOT": env["AMANA_ROOT"], "DESK": "chemical"}
    _, *call = [filled.get(word, word) for word in shlex.split(line)]
    assert "--invitation" not in call
    token = {"AMANA_INVITATION": "a" * 32}
    enrolled = amana(*call, env={**env, **token}, check=1)
    assert enrolled.stderr.startswith("invitation-refused: ")
    nowhere = amana(*call[: call.index("--desk")], env={**env, **token}, check=2)
    assert nowhere.stderr == "bad-desk: Name every desk of the invitation with --desk.\n"
    auditor = amana("reviewer", "init", "--role", "auditor", "--out", tmp_path / "other", env=env)
    assert "--desk" not in auditor.stderr


def test_a_case_is_listed_and_opened(env: dict[str, str], made: Made, tmp_path: Path) -> None:
    listed = json.loads(amana("reviewer", "cases", "--json", env=env).stdout)["cases"]
    [entry] = [one for one in listed if one["case"] == made.case]
    assert (entry["desk"], entry["state"], entry["objects"]) == ("chemical", "received", 1)
    assert made.case in amana("reviewer", "cases", env=env).stdout
    out = tmp_path / "out"
    opened = amana("reviewer", "open", made.case, "--out", out, "--json", env=env)
    assert sorted(json.loads(opened.stdout)["files"]) == sorted(path.name for path in out.iterdir())
    listed = json.loads(
        amana("reviewer", "cases", "--state", "in-review", "--json", env=env).stdout
    )
    assert made.case in {one["case"] for one in listed["cases"]}
    again = amana("reviewer", "open", made.case, "--out", out, env=env, check=2)
    assert again.stderr.startswith("folder-taken: ")


def test_a_passphrase_that_does_not_fit_opens_no_key(env: dict[str, str]) -> None:
    done = amana("reviewer", "cases", env={**env, "AMANA_PASSPHRASE": "other"}, check=2)
    assert done.stderr.startswith("wrong-passphrase: ")


def test_a_key_that_waits_is_asked_for_again_and_no_other_is_made(
    env: dict[str, str], tmp_path: Path
) -> None:
    own = tmp_path / "own.key"
    own.write_bytes(Path(env["AMANA_KEY"]).read_bytes())
    there = {**env, "AMANA_KEY": str(own)}
    words = amana("reviewer", "fingerprint", env=there)
    assert words.stderr == ""
    nowhere = {**there, "AMANA_SERVER": f"http://127.0.0.1:{free_port()}"}
    failed = amana("reviewer", "replace-key", env=nowhere, check=4)
    assert "nobody was asked yet" in failed.stderr
    assert "repeat" in failed.stderr
    assert own.read_bytes() == Path(env["AMANA_KEY"]).read_bytes()

    asked = json.loads(amana("reviewer", "replace-key", "--json", env=there).stdout)
    waiting = own.read_bytes()
    again = json.loads(amana("reviewer", "replace-key", "--json", env=there).stdout)
    assert (again, own.read_bytes()) == (asked, waiting)
    # Both are told apart while nobody knows which of them the officers list.
    shown = amana("reviewer", "fingerprint", env=there)
    assert shown.stdout.strip() == asked["fingerprint"] != words.stdout.strip()
    assert words.stdout.strip() in shown.stderr


def test_what_is_missing_is_a_fault_of_use(env: dict[str, str], made: Made) -> None:
    amana("reviewer", "open", made.case, env=env, check=2)
    amana("reviewer", "cases", env={**env, "AMANA_KEY": "/nowhere.key"}, check=2)


def test_an_unknown_case_is_refused(env: dict[str, str], tmp_path: Path) -> None:
    done = amana("reviewer", "open", "a" * 32, "--out", tmp_path / "out", env=env, check=1)
    assert done.stderr.startswith("not-found: ")
    assert not (tmp_path / "out").exists()


def test_an_older_directory_than_was_seen_is_refused(
    service: Service, env: dict[str, str], made: Made, tmp_path: Path
) -> None:
    amana("reviewer", "open", made.case, "--out", tmp_path / "first", env=env)
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    # As if the server had shown a newer time stamp before, which only its online key can have signed.
    seen = tmp_path / "cache" / "timestamp.json"
    newer = Metadata[Timestamp].from_file(str(seen))
    newer.signed.version += 1000
    newer.sign(tuf_signer(SigningKey((service.data / "secrets" / "online").read_bytes())))
    newer.to_file(str(seen))
    done = amana("reviewer", "open", made.case, "--out", tmp_path / "second", env=env, check=3)
    assert done.stderr.startswith("directory-rollback: ")
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_opening_that_is_ended_leaves_no_plaintext(
    service: Service, client: Client, env: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    made = client.testimony(files=[b"first"])
    locations, completion = client.announce(made)
    for location, data in zip(locations, made.sealed, strict=True):
        assert client.patch(location, 0, data).status_code == 204
    assert client.complete(completion).status_code == 200
    reader = json.loads(made.submission.labels)[0]["reader"]
    key = service.folder / "demo" / "reviewers" / f"{reader}.key"
    workplace = tmp_path / "out" / f".opening-{made.case}"
    workplace.mkdir(parents=True)
    # Whoever writes to a pipe that nobody reads stands still, here with the account in plain beside it.
    os.mkfifo(workplace / "1.plain")
    process = subprocess.Popen(
        [*AMANA, "reviewer", "open", made.case, "--out", str(tmp_path / "out")],
        env={**os.environ, **env, "AMANA_KEY": str(key), "AMANA_PASSPHRASE": PASSPHRASE},
    )
    wait_until((workplace / "0.plain").exists, "the account in plain")
    process.send_signal(number)
    assert process.wait(timeout=30) == 130
    assert not list(tmp_path.rglob("*.plain"))
