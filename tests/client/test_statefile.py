"""What an interrupted sending leaves on disk, and what damage does to it."""

import hashlib
import json
from base64 import b64decode, b64encode
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amana.client.errors import Usage
from amana.client.statefile import Sending, StateFile
from amana.protocol.codename import Codename, thread_keys
from amana.protocol.submission import Submission
from tests.support.readers import ACCOUNT, DEPLOYMENT, DeskInMemory

NAME = "canary-name.bin"
CONTENT = b"canary-content " * 5000


def sending(submission: Submission, **changes: Any) -> Sending:
    return Sending(
        **{
            "server": "https://amana.example",
            "proxy": None,
            "deployment": DEPLOYMENT,
            "custody_log_origin": "amana-test/custody",
            "custody_log_key": "key",
            "submission": submission,
            "admission": b"proof",
            "uploads": {1: "/v1/uploads/abc"},
            "completion": "/v1/uploads/def/completion",
            **changes,
        }
    )


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Sending, StateFile]:
    attached = tmp_path / NAME
    attached.write_bytes(CONTENT)
    submission, state = DeskInMemory().seal(tmp_path, keep=(attached,))
    state.save(sending(submission))
    return sending(submission), state


def test_a_state_holds_nothing_that_opens_it(tmp_path: Path) -> None:
    desk, codename = DeskInMemory(), Codename.generate()
    attached = tmp_path / NAME
    attached.write_bytes(CONTENT)
    submission, state = desk.seal(tmp_path, keep=(attached,), codename=codename)
    state.save(sending(submission))
    keys, manifest = desk.open(submission)
    [case_key, *_] = keys.values()
    master = codename.master(DEPLOYMENT)
    thread = thread_keys(master)
    secrets = [
        str(case_key).encode(),
        str(thread.reply).encode(),
        str(thread.reply.recipient).encode(),
        thread.thread.public.encode(),
        # In pairs: one word alone may be one of ours, as "server" is.
        *(" ".join(pair).encode() for pair in pairwise(codename.words().split())),
        codename.digits().encode(),
        codename.digits().replace(" ", "").encode(),
        NAME.encode(),
        b"canary-content",
        ACCOUNT,
        manifest.salt.encode(),
    ]
    for data in (
        master,
        thread.thread.seed,
        thread.control(0).seed,
        codename.value.to_bytes(12, "big"),
        hashlib.sha256(CONTENT).digest(),
        hashlib.sha256(ACCOUNT).digest(),
    ):
        secrets += [data, data.hex().encode(), b64encode(data)]
    files = {path: path.read_bytes() for path in (state.path, *state.folder.iterdir())}
    assert len(files) == 2
    document = json.loads(files[state.path])
    decoded = b"".join(b64decode(part) for part in document["submission"].values())
    for secret in secrets:
        assert not [path.name for path, content in files.items() if secret in content]
        assert secret not in decoded
    # The search would find what is there.
    assert submission.case in files[state.path] + decoded


def test_a_state_comes_back_as_it_was_saved(saved: tuple[Sending, StateFile]) -> None:
    expected, state = saved
    assert state.load() == expected
    assert state.load().announced


def test_nobody_else_can_read_a_state(saved: tuple[Sending, StateFile]) -> None:
    _, state = saved
    assert state.path.stat().st_mode & 0o077 == 0
    assert state.folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in state.folder.iterdir())


def test_after_removal_nothing_is_left(saved: tuple[Sending, StateFile]) -> None:
    _, state = saved
    state.remove()
    assert {path.name for path in state.path.parent.iterdir()} == {NAME}


def test_a_sending_that_is_not_finished_is_not_overwritten(
    saved: tuple[Sending, StateFile],
) -> None:
    expected, state = saved
    with pytest.raises(Usage, match="amana witness resume"):
        state.begin()
    assert state.load() == expected


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "state")
    state.begin()
    with state.writing_sealed(0) as file:
        file.write(b"sealed to a key that is gone")
    again = StateFile(tmp_path / "state")
    again.begin()
    assert list(again.folder.iterdir()) == []


def test_a_folder_with_files_of_others_is_left_alone(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "state")
    state.folder.mkdir()
    (state.folder / "thesis.txt").write_text("mine")
    with pytest.raises(Usage):
        state.begin()
    assert (state.folder / "thesis.txt").read_text() == "mine"


def test_a_missing_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(Usage) as refused:
        StateFile(tmp_path / "state").load()
    assert refused.value.slug == "no-state"


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_a_state_without_all_its_objects_is_refused(
    saved: tuple[Sending, StateFile], damage: str
) -> None:
    _, state = saved
    sealed = state.sealed_path(1)
    if damage == "gone":
        sealed.unlink()
    else:
        sealed.write_bytes(sealed.read_bytes()[:-1])
    with pytest.raises(Usage) as refused:
        state.load()
    assert refused.value.slug == "bad-state"


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.booleans(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    changes=st.dictionaries(
        st.sampled_from(
            ["v", "submission", "admission", "uploads", "completion", "proxy", "server"]
        ),
        VALUES,
        min_size=1,
    )
    | st.binary(max_size=200)
)
def test_a_damaged_state_is_refused_and_never_crashes(
    saved: tuple[Sending, StateFile], changes: dict[str, Any] | bytes
) -> None:
    expected, state = saved
    state.save(expected)
    if isinstance(changes, bytes):
        state.path.write_bytes(changes)
    else:
        state.path.write_text(json.dumps({**json.loads(state.path.read_bytes()), **changes}))
    try:
        loaded = state.load()
    except Usage:
        return
    assert loaded.submission == expected.submission


def test_a_planted_folder_is_not_cleared(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "1.age").write_text("kept")
    state = StateFile(tmp_path / "state")
    state.folder.symlink_to(theirs)
    with pytest.raises(Usage) as refused:
        state.begin()
    assert refused.value.slug == "state-exists"
    state.remove()
    assert (theirs / "1.age").read_text() == "kept"
