"""What every object store promises, on a folder and on a real S3-compatible server."""

import json
import os
import random
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import cycle, pairwise
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from amana.storage.blobs import (
    STATE_LIMIT_BYTES,
    Appender,
    BlobDamaged,
    BlobMissing,
    BlobStore,
    Progress,
    StoreUnavailable,
)
from amana.storage.folder import FolderStore
from amana.storage.s3 import S3Settings, S3Store
from tests.support.relay import Relay, relay_to
from tests.support.s3 import S3Server, free_ports, moto_server

ROOT = Path(__file__).parents[2]
PART_BYTES = 64 * 1024
KEY = f"{'a' * 32}/1"
OTHER = f"{'a' * 32}/10"
"""Begins with KEY, so that deleting by prefix would show."""
DATA = random.Random(7).randbytes(3 * PART_BYTES + 4321)
SMALL = DATA[:5000]


@dataclass(frozen=True)
class Place:
    """Where objects rest; `store()` is what another process would build."""

    store: Callable[[], BlobStore]
    left_behind: Callable[[], list[str]]
    """Names of everything stored, parts and tails included."""
    spec: dict[str, object]


def folder_place(folder: Path) -> Place:
    def left_behind() -> list[str]:
        return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())

    prepared(folder)
    return Place(lambda: FolderStore(folder), left_behind, {"folder": str(folder)})


def prepared(folder: Path) -> FolderStore:
    store = FolderStore(folder)
    store.prepare()
    return store


def client_of(target: S3Settings) -> "boto3.client":
    return boto3.client(
        "s3",
        endpoint_url=target.endpoint_url,
        aws_access_key_id=target.access_key,
        aws_secret_access_key=target.secret_key,
        region_name=target.region,
        config=Config(s3={"addressing_style": "path"}),
    )


def s3_place(target: S3Settings) -> Place:
    client = client_of(target)

    def left_behind() -> list[str]:
        objects = client.list_objects_v2(Bucket=target.bucket).get("Contents", [])
        uploads = client.list_multipart_uploads(Bucket=target.bucket).get("Uploads", [])
        return sorted(
            [*(one["Key"] for one in objects), *(f"parts {one['Key']}" for one in uploads)]
        )

    return Place(
        lambda: S3Store(target, part_bytes=PART_BYTES), left_behind, {"s3": asdict(target)}
    )


@pytest.fixture
def bucket(s3_server: S3Server) -> S3Settings:
    return s3_server.fresh_bucket()


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return folder_place(tmp_path / "objects")
    return s3_place(request.getfixturevalue("bucket"))


def ignore(_progress: Progress) -> None:
    pass


def pieces(data: bytes, seed: int = 3) -> Iterator[bytes]:
    """Cut into pieces of odd lengths, an empty one among them."""
    dice = random.Random(seed)
    yield b""
    while data:
        count = dice.choice([1, 7, 999, 30_011, PART_BYTES, 2 * PART_BYTES + 1])
        yield data[:count]
        data = data[count:]


def send(store: BlobStore, data: bytes, progress: Progress, size: int, key: str = KEY) -> Progress:
    """Send what one request carries."""
    with store.resume(key, progress, size, ignore) as appender:
        for piece in pieces(data):
            appender.write(piece)
        return appender.close()


def write_and_close(appender: Appender, data: bytes) -> Progress:
    for start in range(0, len(data), 1000):
        appender.write(data[start : start + 1000])
    return appender.close()


def store_whole(store: BlobStore, data: bytes, key: str = KEY) -> Progress:
    progress = send(store, data, Progress(), len(data), key)
    store.finish(key, progress, len(data))
    return progress


def content(store: BlobStore, key: str = KEY) -> bytes:
    return b"".join(store.read(key))


class TestEveryStore:
    @pytest.mark.parametrize(
        "size", [1, 5000, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, len(DATA)]
    )
    def test_odd_pieces_become_one_object(self, place: Place, size: int) -> None:
        store = place.store()
        progress = send(store, DATA[:size], Progress(), size)
        assert progress.offset == size
        store.finish(KEY, progress, size)
        assert content(store) == DATA[:size]
        assert store.size(KEY) == size
        assert len(place.left_behind()) == 1

    def test_a_buffer_may_be_reused_at_once(self, place: Place) -> None:
        store, buffer = place.store(), bytearray(10_000)
        with store.resume(KEY, Progress(), len(DATA), ignore) as appender:
            for start in range(0, len(DATA), len(buffer)):
                piece = DATA[start : start + len(buffer)]
                buffer[: len(piece)] = piece
                appender.write(memoryview(buffer)[: len(piece)])
            progress = appender.close()
        store.finish(KEY, progress, len(DATA))
        assert content(store) == DATA

    @pytest.mark.parametrize("size", [5000, len(DATA)])
    def test_a_cut_upload_is_continued_by_other_processes(self, place: Place, size: int) -> None:
        cuts = [0, 1, 1234, 1234, size // 2, size - 1, size]
        progress = Progress()
        for start, end in pairwise(cuts):
            progress = send(place.store(), DATA[start:end], progress, size)
            assert progress.offset == end
        place.store().finish(KEY, progress, size)
        assert content(place.store()) == DATA[:size]
        assert len(place.left_behind()) == 1

    def test_what_was_recorded_survives_a_writer_that_vanishes(self, place: Place) -> None:
        recorded = [send(place.store(), DATA[:777], Progress(), len(DATA))]
        doomed = place.store().resume(KEY, recorded[0], len(DATA), recorded.append)
        doomed.write(DATA[777:150_000])
        doomed.write(DATA[150_000:160_000])
        del doomed
        found = place.store().recover(KEY, recorded[-1], len(DATA))
        assert recorded[-1].offset <= found.offset <= 160_000
        progress = send(place.store(), DATA[found.offset :], found, len(DATA))
        place.store().finish(KEY, progress, len(DATA))
        assert content(place.store()) == DATA

    def test_a_whole_object_is_found_when_its_writer_died_before_telling(
        self, place: Place
    ) -> None:
        cut = send(place.store(), SMALL[:10], Progress(), len(SMALL))
        send(place.store(), SMALL[10:], cut, len(SMALL))
        found = place.store().recover(KEY, cut, len(SMALL))
        assert found.offset == len(SMALL)
        place.store().finish(KEY, found, len(SMALL))
        assert place.store().recover(KEY, cut, len(SMALL)).offset == len(SMALL)
        assert content(place.store()) == SMALL
        assert len(place.left_behind()) == 1

    def test_the_same_bytes_may_come_again_when_nobody_knows_that_they_came(
        self, place: Place
    ) -> None:
        send(place.store(), SMALL, Progress(), len(SMALL))
        store_whole(place.store(), SMALL)
        assert content(place.store()) == SMALL

    def test_bytes_of_a_request_that_was_not_closed_do_not_count(self, place: Place) -> None:
        begun = send(place.store(), DATA[:70_000], Progress(), len(DATA))
        with place.store().resume(KEY, begun, len(DATA), ignore) as appender:
            appender.write(bytes(len(DATA) - 70_000))
        # What is still under way could replace what is sent next.
        assert not [one for one in threading.enumerate() if one.name.startswith("parts")]
        progress = send(place.store(), DATA[70_000:], begun, len(DATA))
        place.store().finish(KEY, progress, len(DATA))
        assert content(place.store()) == DATA

    @pytest.mark.parametrize("data", [SMALL, DATA], ids=["small", "large"])
    def test_finishing_may_be_repeated(self, place: Place, data: bytes) -> None:
        progress = store_whole(place.store(), data)
        place.store().finish(KEY, progress, len(data))
        assert content(place.store()) == data

    def test_an_empty_request_after_the_last_byte_changes_nothing(self, place: Place) -> None:
        for data in (SMALL, DATA):
            progress = send(place.store(), data, Progress(), len(data))
            assert send(place.store(), b"", progress, len(data)).offset == len(data)
            place.store().finish(KEY, progress, len(data))
            again = send(place.store(), b"", progress, len(data))
            place.store().finish(KEY, again, len(data))
            assert content(place.store()) == data
            place.store().delete(KEY, again)

    @pytest.mark.parametrize("data", [SMALL, DATA], ids=["small", "large"])
    def test_an_unfinished_object_is_not_an_object(self, place: Place, data: bytes) -> None:
        progress = send(place.store(), data[:-1], Progress(), len(data))
        assert place.store().size(KEY) is None
        with pytest.raises(BlobMissing):
            place.store().read(KEY)
        with pytest.raises(BlobDamaged):
            place.store().finish(KEY, progress, len(data))

    def test_more_than_announced_is_refused(self, place: Place) -> None:
        with place.store().resume(KEY, Progress(), 100, ignore) as appender:
            appender.write(DATA[:60])
            with pytest.raises(ValueError, match="announced"):
                appender.write(DATA[60:101])
            progress = appender.close()
        assert progress.offset == 60
        progress = send(place.store(), DATA[60:100], progress, 100)
        place.store().finish(KEY, progress, 100)
        assert content(place.store()) == DATA[:100]

    def test_ranges(self, place: Place) -> None:
        store = place.store()
        store_whole(store, DATA)
        for start, length in [(0, 1), (5, 70_000), (len(DATA) - 3, 3), (len(DATA) - 3, 9), (7, 0)]:
            assert b"".join(store.read(KEY, start, length)) == DATA[start : start + length]
        assert b"".join(store.read(KEY, 100)) == DATA[100:]
        assert b"".join(store.read(KEY, len(DATA))) == b""
        assert b"".join(store.read(KEY, len(DATA) + 5, 3)) == b""

    def test_a_missing_object_is_told_before_the_first_block(self, place: Place) -> None:
        for start, length in [(0, None), (0, 0), (9, 9)]:
            with pytest.raises(BlobMissing):
                place.store().read(KEY, start, length)
        assert place.store().size(KEY) is None

    def test_a_reader_may_stop_early(self, place: Place) -> None:
        store_whole(place.store(), DATA)
        blocks = place.store().read(KEY)
        assert DATA.startswith(next(blocks))
        del blocks

    @pytest.mark.parametrize("size", [5000, len(DATA)])
    def test_deleting_leaves_nothing_of_it_and_all_of_others(self, place: Place, size: int) -> None:
        store = place.store()
        store_whole(store, SMALL, OTHER)
        others = place.left_behind()
        partial = send(store, DATA[: size - 3], Progress(), size)
        for progress in (partial, partial, Progress()):
            place.store().delete(KEY, progress)
            assert place.left_behind() == others
        progress = store_whole(store, DATA[:size])
        for _ in range(2):
            place.store().delete(KEY, progress)
            assert place.left_behind() == others
        assert store.size(KEY) is None
        assert content(store, OTHER) == SMALL

    def test_deleting_takes_along_what_was_never_recorded(self, place: Place) -> None:
        recorded = send(place.store(), DATA[:1000], Progress(), len(DATA))
        send(place.store(), DATA[1000:-5], recorded, len(DATA))
        send(place.store(), DATA[1000:2000], recorded, len(DATA))
        place.store().delete(KEY, recorded)
        assert place.left_behind() == []

    def test_an_object_can_begin_anew_after_it_was_deleted(self, place: Place) -> None:
        progress = store_whole(place.store(), DATA)
        place.store().delete(KEY, progress)
        other = DATA[::-1]
        store_whole(place.store(), other)
        assert content(place.store()) == other

    @pytest.mark.parametrize("data", [SMALL, DATA], ids=["small", "large"])
    def test_a_finished_object_is_not_begun_anew_by_who_did_not_know(
        self, place: Place, data: bytes
    ) -> None:
        begun = send(place.store(), data[:100], Progress(), len(data))
        progress = send(place.store(), data[100:], begun, len(data))
        place.store().finish(KEY, progress, len(data))
        with pytest.raises(BlobDamaged):
            send(place.store(), bytes(len(data) - 100), begun, len(data))
        assert content(place.store()) == data

    def test_only_keys_of_objects_are_accepted(self, place: Place) -> None:
        wrong = ["", "a/1", f"{'a' * 32}", f"{'a' * 32}/", f"{'a' * 32}/01", f"{'A' * 32}/1"]
        wrong += [
            f"../{'a' * 32}/1",
            f"{'a' * 32}/../1",
            f"{KEY}\n",
            f"{KEY}.part",
            f"{'a' * 32}/-1",
        ]
        for key in wrong:
            with pytest.raises(ValueError, match="not the key") as caught:
                place.store().size(key)
            assert key == "" or key not in str(caught.value)

    def test_bookkeeping_that_makes_no_sense_is_damage(self, place: Place) -> None:
        for state in ["", "{}", "[]", "no", '{"upload":"","parts":[],"tail":"","stale":[]}']:
            with pytest.raises(BlobDamaged):
                place.store().resume(KEY, Progress(100, state), 5000, ignore)
            place.store().delete(KEY, Progress(100, state))

    def test_check_passes_and_leaves_nothing(self, place: Place) -> None:
        place.store().check()
        assert place.left_behind() == []

    @pytest.mark.timeout(300)
    def test_a_writer_may_be_killed_anywhere(self, place: Place, tmp_path: Path) -> None:
        records = tmp_path / "records"
        records.mkdir()
        step = 1 if "folder" in place.spec else 19
        spec = {**place.spec, "records": str(records), "step": step}
        deaths = run_python("-m", "tests.support.dying_writer", json.dumps(spec))
        assert int(deaths) > 15
        assert not [one for one in place.left_behind() if not one.rpartition("/")[2].isdigit()]

    def test_random_requests_equal_a_plain_list_of_bytes(self, place: Place) -> None:
        # Two instances take turns, as two processes would.
        turns = cycle([place.store(), place.store()])
        Uploads.place = replace(place, store=lambda: next(turns))
        is_folder = "folder" in place.spec
        run_machine(
            Uploads,
            settings=settings(
                max_examples=60 if is_folder else 8,
                stateful_step_count=20 if is_folder else 10,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


class Uploads(RuleBasedStateMachine):
    """One upload against a model: the bytes that were acknowledged."""

    place: Place
    objects = 0

    @initialize(size=st.integers(1, 4 * PART_BYTES))
    def announce(self, size: int) -> None:
        Uploads.objects += 1
        self.key = f"{'b' * 32}/{Uploads.objects}"
        self.data = random.Random(size).randbytes(size)
        self.recorded = Progress()

    def record(self, progress: Progress) -> None:
        assert self.recorded.offset < progress.offset <= len(self.data)
        self.recorded = progress

    def sent(self, share: float) -> bytes:
        left = len(self.data) - self.recorded.offset
        return self.data[self.recorded.offset :][: round(left * share)]

    @rule(share=st.floats(0, 1), seed=st.integers(0, 9))
    def request(self, share: float, seed: int) -> None:
        sent, before = self.sent(share), self.recorded.offset
        with self.place.store().resume(
            self.key, self.recorded, len(self.data), self.record
        ) as appender:
            for piece in pieces(sent, seed):
                appender.write(piece)
            self.recorded = appender.close()
        assert self.recorded.offset == before + len(sent)

    @rule(share=st.floats(0, 1))
    def crash(self, share: float) -> None:
        sent, before = self.sent(share), self.recorded.offset
        with self.place.store().resume(
            self.key, self.recorded, len(self.data), self.record
        ) as appender:
            appender.write(sent)
        found = self.place.store().recover(self.key, self.recorded, len(self.data))
        assert self.recorded.offset <= found.offset <= before + len(sent)
        self.recorded = found

    @rule(share=st.floats(0, 1))
    def refused_request(self, share: float) -> None:
        with self.place.store().resume(self.key, self.recorded, len(self.data), ignore) as appender:
            appender.write(bytes(len(self.sent(share))))

    @precondition(lambda self: self.recorded.offset == len(self.data))
    @rule()
    def finish(self) -> None:
        self.place.store().finish(self.key, self.recorded, len(self.data))
        assert content(self.place.store(), self.key) == self.data

    @rule()
    def delete(self) -> None:
        self.place.store().delete(self.key, self.recorded)
        assert self.place.left_behind() == []
        self.recorded = Progress()

    def teardown(self) -> None:
        if not hasattr(self, "key"):
            return
        while self.recorded.offset < len(self.data):
            self.request(1.0, 0)
        self.finish()
        self.delete()


def run_python(*arguments: str, prefix: tuple[str, ...] = ()) -> str:
    """Run a program that uses the package, and return what it prints."""
    done = subprocess.run(
        [*prefix, sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "backend")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


FILL_THE_DISK = """
import sys
from pathlib import Path
from amana.storage.blobs import Progress, StoreUnavailable
from amana.storage.folder import FolderStore

store, key = FolderStore(Path(sys.argv[1]) / "objects"), "a" * 32 + "/1"
store.prepare()
block, size, written = bytes(range(256)) * 100, 2 * 2**20, 0
appender = store.resume(key, Progress(), size, print)
try:
    while True:
        appender.write(block)
        written += len(block)
except StoreUnavailable as error:
    assert str(error) == str(StoreUnavailable()), error
    assert error.__cause__ is None and error.__suppress_context__
progress = appender.close()
assert written <= progress.offset < written + len(block), (written, progress)
assert progress.offset > 500_000
try:
    store.check()
    full = False
except StoreUnavailable:
    full = True
assert full == (sys.argv[2] == "disk")
assert FolderStore(store.root).recover(key, progress, size) == progress
data = (block * 100)[:size]
if sys.argv[2] == "disk":
    Path(sys.argv[1], "ballast").unlink()
    progress = Progress(progress.offset)
    appender = FolderStore(store.root).resume(key, progress, progress.offset + 5000, print)
    appender.write(data[progress.offset :][:5000])
    progress = appender.close()
    store.finish(key, progress, progress.offset)
    assert b"".join(store.read(key)) == data[:progress.offset]
print("kept")
"""


class TestFolder:
    def test_a_full_disk_keeps_what_fitted_and_goes_on_when_there_is_room(
        self, tmp_path: Path
    ) -> None:
        mount = f'mount -t tmpfs -o size=1m tmpfs "{tmp_path}"'
        room = ["unshare", "-rm", "sh", "-c"]
        try:
            subprocess.run([*room, mount], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no small file system can be mounted here")
        script = f'{mount} && head -c 100000 /dev/zero > "{tmp_path}/ballast" && exec "$@"'
        prefix = (*room, script, "sh")
        assert run_python("-c", FILL_THE_DISK, str(tmp_path), "disk", prefix=prefix) == "kept"

    def test_a_file_that_may_not_grow_is_a_full_disk(self, tmp_path: Path) -> None:
        # `ulimit -f` counts in blocks of 512 or 1024 bytes, depending on the shell.
        prefix = ("sh", "-c", 'ulimit -f 1500 && exec "$@"', "sh")
        assert run_python("-c", FILL_THE_DISK, str(tmp_path), "limit", prefix=prefix) == "kept"

    def test_only_the_service_may_read_and_no_time_of_day_is_kept(self, tmp_path: Path) -> None:
        store = prepared(tmp_path / "objects")
        send(store, SMALL[:10], Progress(), len(SMALL), OTHER)
        store_whole(store, SMALL)
        found = [store.root, *store.root.rglob("*")]
        assert len(found) == 6
        for one in found:
            status = one.stat()
            assert status.st_mode & 0o777 == (0o700 if one.is_dir() else 0o600)
            assert status.st_mtime % 86_400 == 0
            assert abs(status.st_mtime - time.time()) < 2 * 86_400

    def test_a_file_shorter_than_recorded_is_damage(self, tmp_path: Path) -> None:
        store = prepared(tmp_path)
        progress = send(store, SMALL[:100], Progress(), len(SMALL))
        os.truncate(next(tmp_path.rglob("*.part")), 99)
        with pytest.raises(BlobDamaged):
            store.resume(KEY, progress, len(SMALL), ignore)
        with pytest.raises(BlobDamaged):
            store.recover(KEY, progress, len(SMALL))

    def test_a_finished_file_of_another_size_is_damage(self, tmp_path: Path) -> None:
        store = prepared(tmp_path)
        progress = store_whole(store, SMALL)
        os.truncate(next(tmp_path.rglob("1")), 99)
        with pytest.raises(BlobDamaged):
            store.finish(KEY, progress, len(SMALL))

    def test_an_upload_has_one_writer_until_it_lets_go(self, tmp_path: Path) -> None:
        store = prepared(tmp_path)
        late = store.resume(KEY, Progress(), len(SMALL), ignore)
        late.write(SMALL)
        with pytest.raises(StoreUnavailable):
            FolderStore(tmp_path).resume(KEY, Progress(), len(SMALL), ignore)
        with pytest.raises(StoreUnavailable):
            FolderStore(tmp_path).finish(KEY, Progress(len(SMALL)), len(SMALL))
        assert store.size(KEY) is None
        late.close()
        store_whole(store, SMALL)
        assert content(store) == SMALL

    def test_a_volume_that_is_not_mounted_is_no_loss_of_objects(self, tmp_path: Path) -> None:
        store = prepared(tmp_path / "objects")
        progress = store_whole(store, SMALL)
        begun = send(store, SMALL[:100], Progress(), len(SMALL), OTHER)
        (tmp_path / "objects").rename(tmp_path / "unmounted")
        for empty in (False, True):
            if empty:
                (tmp_path / "objects").mkdir()
            for work in (
                lambda: store.finish(KEY, progress, len(SMALL)),
                lambda: store.recover(OTHER, begun, len(SMALL)),
                lambda: store.resume(OTHER, begun, len(SMALL), ignore),
                lambda: store.read(KEY),
                lambda: store.delete(KEY, progress),
                store.check,
            ):
                with pytest.raises(StoreUnavailable):
                    work()
        assert list((tmp_path / "objects").iterdir()) == []
        (tmp_path / "objects").rmdir()
        (tmp_path / "unmounted").rename(tmp_path / "objects")
        assert content(store) == SMALL
        assert store.recover(OTHER, begun, len(SMALL)) == begun

    def test_a_folder_that_cannot_be_made_is_unavailable(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        store = FolderStore(tmp_path / "file" / "objects")
        with pytest.raises(StoreUnavailable) as caught:
            store.check()
        assert "file" not in str(caught.value)
        with pytest.raises(StoreUnavailable):
            store.resume(KEY, Progress(), 10, ignore)


FORK_AND_CHECK = """
import json, os, sys
from amana.storage.s3 import S3Settings, S3Store

store = S3Store(S3Settings(**json.loads(sys.argv[1])))
store.check()
child = os.fork()
for _ in range(10):
    store.check()
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("both")
"""


@pytest.fixture
def wire(bucket: S3Settings) -> Iterator[tuple[Relay, S3Store]]:
    """A store behind a wire that can be cut."""
    with relay_to(bucket.endpoint_url or "") as relay:
        through = replace(bucket, endpoint_url=f"http://127.0.0.1:{relay.port}")
        yield relay, S3Store(through, part_bytes=PART_BYTES)


class TestS3:
    @pytest.mark.parametrize("data", [SMALL, DATA], ids=["small", "large"])
    def test_a_late_writer_never_mixes_into_what_is_recorded_or_finished(
        self, bucket: S3Settings, data: bytes
    ) -> None:
        store = S3Store(bucket, part_bytes=PART_BYTES)
        begun = send(store, data[:100], Progress(), len(data))
        with store.resume(KEY, begun, len(data), ignore) as late:
            late.write(bytes(len(data) // 2))
            progress = send(store, data[100:], begun, len(data))
            store.finish(KEY, progress, len(data))
            late.write(bytes(len(data) - len(data) // 2 - 100))
            # The small one finds the name taken; the parts of the large one were swept away.
            with pytest.raises(BlobDamaged):
                late.close()
        assert content(store) == data
        assert s3_place(bucket).left_behind() == [KEY]

    def test_a_store_that_goes_away_keeps_what_it_confirmed_and_goes_on_later(
        self, wire: tuple[Relay, S3Store], bucket: S3Settings
    ) -> None:
        relay, store = wire
        recorded = [send(store, DATA[:1000], Progress(), len(DATA))]
        # The third part is only sent when the first one is confirmed.
        relay.cut_after = 2 * PART_BYTES + PART_BYTES // 2
        appender = store.resume(KEY, recorded[0], len(DATA), recorded.append)
        with pytest.raises(StoreUnavailable) as caught:
            write_and_close(appender, DATA[1000:])
        assert str(caught.value) == str(StoreUnavailable())
        assert caught.value.__suppress_context__
        with pytest.raises(StoreUnavailable):
            appender.write(b"more")
        kept = appender.close()
        assert kept == recorded[-1]
        assert kept.offset in (PART_BYTES, 2 * PART_BYTES)
        with pytest.raises(StoreUnavailable):
            store.check()
        with pytest.raises(StoreUnavailable):
            store.size(KEY)
        relay.mend()
        progress = send(store, DATA[kept.offset :], kept, len(DATA))
        store.finish(KEY, progress, len(DATA))
        assert content(store) == DATA
        assert s3_place(bucket).left_behind() == [KEY]

    def test_a_store_that_goes_away_while_it_is_read_is_unavailable(
        self, wire: tuple[Relay, S3Store]
    ) -> None:
        relay, store = wire
        data = bytes(8 * 2**20)
        with S3Store(store.settings).resume(KEY, Progress(), len(data), ignore) as appender:
            appender.write(data)
            S3Store(store.settings).finish(KEY, appender.close(), len(data))
        blocks = store.read(KEY)
        next(blocks)
        relay.cut()
        with pytest.raises(StoreUnavailable):
            list(blocks)

    def test_nobody_listening_is_unavailable_and_found_out_only_when_needed(self) -> None:
        (port,) = free_ports(1)
        store = S3Store(S3Settings(f"http://127.0.0.1:{port}", "bucket", "us-east-1", "a", "b"))
        with pytest.raises(StoreUnavailable) as caught:
            store.check()
        assert str(port) not in str(caught.value)
        with store.resume(KEY, Progress(), 10, ignore) as appender:
            appender.write(bytes(10))
            with pytest.raises(StoreUnavailable):
                appender.close()

    @pytest.mark.parametrize(
        "change",
        [
            {"secret_key": "wrong"},
            {"access_key": "test:nobody"},
            {"bucket": "amana-not-there"},
            {"endpoint_url": "not an address"},
        ],
    )
    def test_wrong_settings_are_unavailable_and_not_repeated(
        self, bucket: S3Settings, change: dict[str, str]
    ) -> None:
        store = S3Store(replace(bucket, **change))
        with pytest.raises(StoreUnavailable) as caught:
            store.check()
        assert not any(value in str(caught.value) for value in change.values())
        assert "testing" not in repr(store.settings)

    @pytest.mark.parametrize("size", [30_000, len(DATA)])
    def test_bytes_that_change_on_their_way_are_not_confirmed(
        self, wire: tuple[Relay, S3Store], size: int
    ) -> None:
        relay, store = wire
        relay.flip = 20_000
        with pytest.raises(StoreUnavailable):
            send(store, DATA[:size], Progress(), size)
        assert relay.flip is None

    @pytest.mark.parametrize("size", [30_000, len(DATA)])
    def test_a_store_that_compares_no_checksum_is_caught_by_its_etag(self, size: int) -> None:
        with moto_server() as server, relay_to(server.endpoint_url) as relay:
            target = server.fresh_bucket()
            through = replace(target, endpoint_url=f"http://127.0.0.1:{relay.port}")
            store = S3Store(through, part_bytes=PART_BYTES)
            store.check()
            relay.flip = 20_000
            with pytest.raises(StoreUnavailable):
                send(store, DATA[:size], Progress(), size)
            assert relay.flip is None

    def test_a_recorded_part_that_another_writer_replaced_is_damage(
        self, bucket: S3Settings
    ) -> None:
        store = S3Store(bucket, part_bytes=PART_BYTES)
        progress = send(store, DATA, Progress(), len(DATA))
        upload = json.loads(progress.state)["upload"]
        store.put_part(KEY, upload, 2, bytearray(PART_BYTES))
        with pytest.raises(BlobDamaged):
            store.finish(KEY, progress, len(DATA))
        assert store.size(KEY) is None
        store.delete(KEY, progress)
        assert s3_place(bucket).left_behind() == []

    def test_a_tail_that_is_not_what_was_recorded_is_damage(self, bucket: S3Settings) -> None:
        store = S3Store(bucket, part_bytes=PART_BYTES)
        progress = send(store, SMALL[:100], Progress(), len(SMALL))
        for body in (SMALL[:99], SMALL[:101], bytes(100)):
            store.put_tail(KEY, 100, bytearray(body))
            with pytest.raises(BlobDamaged):
                store.resume(KEY, progress, len(SMALL), ignore)
        store.put_tail(KEY, 100, bytearray(SMALL[:100]))
        store.resume(KEY, progress, len(SMALL), ignore).close()

    def test_an_upload_that_the_operator_ended_is_damage(self, bucket: S3Settings) -> None:
        store = S3Store(bucket, part_bytes=PART_BYTES)
        progress = send(store, DATA[: 2 * PART_BYTES], Progress(), len(DATA))
        client = client_of(bucket)
        upload = json.loads(progress.state)["upload"]
        client.abort_multipart_upload(Bucket=bucket.bucket, Key=KEY, UploadId=upload)
        client.close()
        with pytest.raises(BlobDamaged):
            send(store, DATA[2 * PART_BYTES :], progress, len(DATA))
        store.delete(KEY, progress)

    def test_finishing_sweeps_what_dead_writers_left(self, bucket: S3Settings) -> None:
        store = S3Store(bucket, part_bytes=PART_BYTES)
        store.begin(KEY)
        store.put_tail(KEY, 77, bytearray(DATA[:77]))
        store.begin(OTHER)
        store_whole(store, DATA)
        assert s3_place(bucket).left_behind() == [KEY, f"parts {OTHER}"]

    def test_every_part_is_told_in_the_thread_that_writes(self, bucket: S3Settings) -> None:
        told: list[tuple[int, int]] = []
        store = S3Store(bucket, part_bytes=PART_BYTES)

        def note(progress: Progress) -> None:
            told.append((progress.offset, threading.get_ident()))

        with store.resume(KEY, Progress(), len(DATA), note) as appender:
            appender.write(DATA)
            appender.close()
        offsets = [PART_BYTES, 2 * PART_BYTES, 3 * PART_BYTES, len(DATA)]
        assert told == [(offset, threading.get_ident()) for offset in offsets]

    def test_a_forked_process_gets_its_own_connections(self, bucket: S3Settings) -> None:
        assert run_python("-c", FORK_AND_CHECK, json.dumps(asdict(bucket))) == "both"

    def test_deleting_leaves_no_version_in_a_bucket_that_keeps_them(
        self, bucket: S3Settings
    ) -> None:
        store = S3Store(bucket, part_bytes=PART_BYTES)
        client = client_of(bucket)
        client.put_bucket_versioning(
            Bucket=bucket.bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        other = store_whole(store, SMALL, OTHER)
        progress = store_whole(store, DATA)

        def versions() -> set[str]:
            found = client.list_object_versions(Bucket=bucket.bucket)
            return {
                one["Key"] for name in ("Versions", "DeleteMarkers") for one in found.get(name, ())
            }

        assert KEY in versions()
        store.delete(KEY, progress)
        assert {key for key in versions() if not key.startswith(OTHER)} == set()
        assert OTHER in versions()
        store.delete(OTHER, other)
        assert versions() == set()
        client.close()

    def test_names_begin_with_the_prefix(self, bucket: S3Settings) -> None:
        store = S3Store(replace(bucket, prefix="here/"), part_bytes=PART_BYTES)
        progress = store_whole(store, SMALL)
        assert s3_place(bucket).left_behind() == [f"here/{KEY}"]
        store.delete(KEY, progress)
        assert s3_place(bucket).left_behind() == []

    def test_a_busy_upload_holds_three_parts_and_a_slow_one_what_came(
        self, bucket: S3Settings
    ) -> None:
        store, block, size = S3Store(bucket), bytes(2**20), 64 * 2**20
        store.check()
        tracemalloc.start()
        slow = [store.resume(KEY, Progress(), size, ignore) for _ in range(50)]
        for one in slow:
            one.write(block[:1000])
        held = tracemalloc.get_traced_memory()[0]
        assert held < 50 * 20_000
        del slow, one
        tracemalloc.reset_peak()
        with store.resume(KEY, Progress(), size, ignore) as appender:
            for _ in range(64):
                appender.write(block)
            progress = appender.close()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 30 * 2**20
        store.finish(KEY, progress, size)
        assert store.size(KEY) == size

    @pytest.mark.parametrize("size", [2**32, 2**42])
    def test_the_bookkeeping_of_the_largest_objects_fits(self, size: int) -> None:
        (port,) = free_ports(1)
        store = S3Store(S3Settings(f"http://127.0.0.1:{port}", "bucket", "us-east-1", "a", "b"))
        parts = -(-size // store.part_bytes(size))
        assert parts <= 5000
        assert len(json.dumps(["0" * 32] * parts)) < STATE_LIMIT_BYTES - 2000

    def test_what_was_not_closed_does_not_count_for_who_looks_after_a_crash(
        self, place: Place
    ) -> None:
        store = place.store()
        progress = send(store, SMALL[:100], Progress(), len(SMALL))
        with store.resume(KEY, progress, len(SMALL), ignore) as appender:
            appender.write(SMALL[100:200])
        assert place.store().recover(KEY, progress, len(SMALL)).offset == 100


# Small files of the public logs


def test_files_are_read_as_they_were_put_and_replaced_whole(place: Place) -> None:
    store = place.store()
    files = {"log/custody/checkpoint": b"one", "log/custody/tile/0/x001/000.p/3": bytes(96)}
    store.put_files(files)
    for name, content in files.items():
        assert place.store().get_file(name) == content
    store.put_files({"log/custody/checkpoint": b"another"})
    assert store.get_file("log/custody/checkpoint") == b"another"
    assert place.left_behind() == sorted(files)
    for missing in ("log/custody/tile", "log/custody/checkpoint/x", "log/other"):
        with pytest.raises(BlobMissing):
            store.get_file(missing)


def test_a_folder_of_files_is_deleted_and_nothing_beside_it(place: Place) -> None:
    store = place.store()
    store.put_files(
        {
            "log/custody/tile/0/000.p/1": b"a",
            "log/custody/tile/0/000.p/2": b"b",
            "log/custody/tile/0/000": b"c",
            "log/custody/tile/0/001.p/1": b"d",
        }
    )
    store.delete_files("log/custody/tile/0/000.p")
    store.delete_files("log/custody/tile/0/000.p")
    store.delete_files("log/custody/tile/9")
    assert place.left_behind() == ["log/custody/tile/0/000", "log/custody/tile/0/001.p/1"]


@pytest.mark.parametrize(
    "name",
    ["", "log", "log/", "log//a", "log/../a", "log/.a", "/log/a", "other/a", "log/A", "log/a\n"],
)
def test_a_file_has_a_name_of_the_logs(place: Place, name: str) -> None:
    store = place.store()
    for use in (
        lambda: store.put_files({name: b""}),
        lambda: store.get_file(name),
        lambda: store.delete_files(name),
    ):
        with pytest.raises(ValueError, match="not the name"):
            use()


def test_files_keep_no_time_of_day_and_nothing_is_looked_for_without_the_mark(
    tmp_path: Path,
) -> None:
    store = prepared(tmp_path / "objects")
    store.put_files({"log/custody/tile/0/000": b"a"})
    for path in (tmp_path / "objects" / "log").rglob("*"):
        if path.name != ".drafts":
            assert path.stat().st_mtime % 86_400 == 0, path
    bare = FolderStore(tmp_path / "elsewhere")
    for use in (
        lambda: bare.put_files({"log/a": b""}),
        lambda: bare.get_file("log/a"),
        lambda: bare.delete_files("log/a"),
    ):
        with pytest.raises(StoreUnavailable):
            use()
