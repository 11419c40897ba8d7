# SPDX-License-Identifier: AGPL-3.0-or-later
"""Objects in an S3-compatible store; the only module that speaks to one. Nothing is kept on this machine's disk.

An object of more than one part travels as a multipart upload. Part n always holds the same range of
the object, so a late writer can only put the same bytes where they are, or be noticed by their ETag.
What does not fill a part yet rests in a small object, `<key>.tail-<offset>`.
"""

import base64
import hashlib
import json
import os
import re
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from amana.storage.blobs import (
    READ_BLOCK_BYTES,
    STATE_LIMIT_BYTES,
    Appender,
    BlobDamaged,
    BlobMissing,
    Progress,
    StoreUnavailable,
    check_file,
    check_key,
)

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PART_BYTES = 8 * 2**20
PARTS_IN_FLIGHT = 2
FILES_IN_FLIGHT = 4
# The ETags of this many parts fit into the bookkeeping; an even larger object travels in larger parts.
_MOST_PARTS = 5000
_MD5_ETAG = re.compile(r"[0-9a-f]{32}")


class _UploadMissing(BlobDamaged):
    """The multipart upload is over or was aborted."""


class _Exists(Exception):
    """There is an object already where one was put under the condition that there is none."""


class _OutOfRange(Exception):
    """A range begins behind the end of the object."""


_MEANING: dict[str, type[Exception]] = {
    "404": BlobMissing,
    "NoSuchKey": BlobMissing,
    "NotFound": BlobMissing,
    "412": _Exists,
    "PreconditionFailed": _Exists,
    "ConditionalRequestConflict": _Exists,
    "416": _OutOfRange,
    "InvalidRange": _OutOfRange,
    "NoSuchUpload": _UploadMissing,
    "InvalidPart": BlobDamaged,
    "InvalidPartOrder": BlobDamaged,
    "EntityTooSmall": BlobDamaged,
}


class _Place(TypedDict):
    Bucket: str
    Key: str


@dataclass(frozen=True)
class S3Settings:
    """Where the bucket is. Without keys, the environment's own credentials serve."""

    endpoint_url: str | None
    bucket: str
    region: str
    access_key: str | None
    secret_key: str | None
    prefix: str = ""

    def __repr__(self) -> str:
        return "S3Settings(…)"


@dataclass(frozen=True)
class _State:
    """The bookkeeping of one upload, kept as JSON in `Progress.state`."""

    upload: str = ""
    """The multipart upload; none before the first full part."""
    parts: tuple[str, ...] = ()
    """The ETags of the parts that are durable, in their order."""
    tail: str = ""
    """The MD5 of the tail that ends at the recorded offset, if there is one."""
    stale: tuple[int, ...] = ()
    """Offsets of tails that are contained in something newer."""

    def advanced(self, offset: int, **changes: Any) -> "_State":
        """Return the state after what was recorded at `offset` got a successor."""
        stale = (*self.stale, offset) if self.tail else self.stale
        return replace(self, **{"tail": "", "stale": stale, **changes})

    def at(self, offset: int) -> Progress:
        state = json.dumps(asdict(self), separators=(",", ":"))
        if len(state) > STATE_LIMIT_BYTES:
            raise StoreUnavailable
        return Progress(offset, state)

    @classmethod
    def of(cls, progress: Progress) -> "_State":
        if not progress.state:
            return cls()
        try:
            fields = json.loads(progress.state)
            return cls(
                str(fields["upload"]),
                tuple(map(str, fields["parts"])),
                str(fields["tail"]),
                tuple(map(int, fields["stale"])),
            )
        except (ValueError, KeyError, TypeError):
            raise BlobDamaged from None


class S3Store:
    """A `BlobStore` in one bucket. The connection is made on first use, anew in every process."""

    def __init__(self, settings: S3Settings, *, part_bytes: int = PART_BYTES) -> None:
        self.settings = settings
        self._least_part_bytes = part_bytes
        self._lock = threading.Lock()
        self._client: tuple[int, S3Client] | None = None

    def resume(
        self, key: str, progress: Progress, size: int, checkpoint: Callable[[Progress], None]
    ) -> Appender:
        """Continue the upload; the tail comes back into memory."""
        state = _State.of(progress)
        tail = self._read_tail(key, progress.offset, state, self.part_bytes(size), size)
        self._delete_stale(key, state)
        state = replace(state, stale=())
        return _PartPump(self, key, progress.offset, state, size, tail, checkpoint)

    def recover(self, key: str, progress: Progress, size: int) -> Progress:
        """Return what was recorded, or the whole object if it was put before its writer died."""
        if progress.offset < size <= self.part_bytes(size) and self.size(key) == size:
            return _State.of(progress).advanced(progress.offset).at(size)
        return progress

    def finish(self, key: str, progress: Progress, size: int) -> None:
        """Join the parts; a small object got its name already when its last byte came."""
        state = _State.of(progress)
        there = self.size(key)
        if there is None and progress.offset == size and state.upload:
            # A repetition whose first answer was lost finds no upload any more, but the object.
            self._join(key, state)
            there = self.size(key)
        if there != size:
            raise BlobDamaged
        self._delete_stale(key, state.advanced(progress.offset))
        if size > self.part_bytes(size):
            self._sweep(key)

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield a finished object in blocks of at most 1 MiB."""
        blocks = self._blocks(self._name(key), start, length)
        next(blocks)
        return blocks

    def size(self, key: str) -> int | None:
        """Return the size of a finished object."""
        with suppress(BlobMissing), _faults():
            return self._s3.head_object(**self._at(self._name(key)))["ContentLength"]
        return None

    def delete(self, key: str, progress: Progress) -> None:
        """Delete the object, its tails, and the parts of every upload of it, recorded or not; every version of them."""
        self._remove(self._name(key))
        with suppress(BlobDamaged):
            # Listings may lag behind, so what is recorded is deleted by name.
            state = _State.of(progress)
            self._delete_stale(key, state.advanced(progress.offset))
            if state.upload:
                self._abort(key, state.upload)
        self._sweep(key)
        self._delete_versions(self._name(key))

    def put_files(self, files: Mapping[str, bytes]) -> None:
        """Put small objects, several at a time."""
        named = [
            (f"{self.settings.prefix}{check_file(name)}", body) for name, body in files.items()
        ]
        with ThreadPoolExecutor(FILES_IN_FLIGHT, thread_name_prefix="files") as senders:
            for done in [senders.submit(self._put_file, name, body) for name, body in named]:
                done.result()

    def get_file(self, name: str) -> bytes:
        """Return a small object."""
        with _faults():
            answer = self._s3.get_object(**self._at(f"{self.settings.prefix}{check_file(name)}"))
            return answer["Body"].read()

    def delete_files(self, folder: str) -> None:
        """Delete the small objects below a name, in all their versions."""
        name = f"{self.settings.prefix}{check_file(folder)}/"
        with _faults():
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.settings.bucket, Prefix=name
            )
            found = [one["Key"] for page in pages for one in page.get("Contents", ())]
        for one in found:
            self._remove(one)
            self._delete_versions(one)

    def _put_file(self, name: str, body: bytes) -> None:
        try:
            with _faults():
                self._put(name, body)
        except (BlobMissing, _Exists):
            raise StoreUnavailable from None

    def prepare(self) -> None:
        try:
            with _faults():
                self._s3.head_bucket(Bucket=self.settings.bucket)
        except (BlobMissing, StoreUnavailable):
            # Some stores name a missing bucket in a code of their own; if it is there, this fails too.
            with _faults():
                self._s3.create_bucket(Bucket=self.settings.bucket)

    def check(self) -> None:
        """Put, read and delete a small object, by the same conditional request that objects are put with."""
        probe = self._at(f"{self.settings.prefix}check-{secrets.token_hex(8)}")
        try:
            with _faults():
                self._put(probe["Key"], b"amana", IfNoneMatch="*")
                self._s3.get_object(**probe)["Body"].read()
                self._s3.delete_object(**probe)
        except BlobMissing:
            raise StoreUnavailable from None

    @property
    def _s3(self) -> "S3Client":
        with self._lock:
            if self._client is None or self._client[0] != os.getpid():
                # A forked child must not share the sockets of its parent.
                try:
                    self._client = (os.getpid(), _connect(self.settings))
                except ValueError:
                    # The text repeats the address that cannot be used.
                    raise StoreUnavailable from None
            return self._client[1]

    def part_bytes(self, size: int) -> int:
        """Return how many bytes of an object of `size` travel in one part."""
        return max(self._least_part_bytes, -(-size // _MOST_PARTS))

    def _name(self, key: str) -> str:
        return f"{self.settings.prefix}{check_key(key)}"

    def _at(self, name: str) -> "_Place":
        return {"Bucket": self.settings.bucket, "Key": name}

    def _tail_at(self, key: str, offset: int) -> "_Place":
        return self._at(f"{self._name(key)}.tail-{offset}")

    def _put(self, name: str, body: bytes | bytearray, **condition: Any) -> None:
        """Put an object and see that these bytes arrived. Raises ClientError, BotoCoreError."""
        md5 = _md5(body)
        answer = self._s3.put_object(
            **self._at(name),
            Body=body,  # type: ignore[arg-type] # A bytearray serves too, and is not copied.
            ContentMD5=_content_md5(md5),
            **condition,
        )
        _checked_etag(answer, md5)

    def put_whole(self, key: str, body: bytearray) -> None:
        """Put a small object under its own name; if it is there already it must be the same."""
        try:
            with _faults():
                self._put(self._name(key), body, IfNoneMatch="*")
        except _Exists:
            if b"".join(self.read(key, 0, len(body) + 1)) != body:
                raise BlobDamaged from None

    def put_tail(self, key: str, offset: int, body: bytearray) -> str:
        """Put what does not fill a part, and return its MD5."""
        with _faults():
            self._put(self._tail_at(key, offset)["Key"], body)
        return _md5(body)

    def begin(self, key: str) -> str:
        """Begin a multipart upload and return its id."""
        with _faults():
            return self._s3.create_multipart_upload(**self._at(self._name(key)))["UploadId"]

    def put_part(self, key: str, upload: str, number: int, body: bytearray) -> str:
        """Put a part, see that these bytes arrived, and return its ETag."""
        md5 = _md5(body)
        with _faults():
            answer = self._s3.upload_part(
                **self._at(self._name(key)),
                UploadId=upload,
                PartNumber=number,
                Body=body,  # type: ignore[arg-type] # As in _put.
                ContentMD5=_content_md5(md5),
            )
        return _checked_etag(answer, md5)

    def _read_tail(
        self, key: str, offset: int, state: _State, part_bytes: int, size: int
    ) -> bytearray:
        """Read the tail that ends at `offset`; it must be what was recorded."""
        length = offset - min(size, len(state.parts) * part_bytes)
        if not state.tail:
            if length and offset != size:
                raise BlobDamaged
            return bytearray()
        if not 0 < length < part_bytes:
            raise BlobDamaged
        try:
            with _faults():
                answer = self._s3.get_object(**self._tail_at(key, offset))
                tail = bytearray(answer["Body"].read(length + 1))
        except BlobMissing:
            raise BlobDamaged from None
        if len(tail) != length or _md5(tail) != state.tail:
            raise BlobDamaged
        return tail

    def _join(self, key: str, state: _State) -> None:
        with suppress(_UploadMissing), _faults():
            self._s3.complete_multipart_upload(
                **self._at(self._name(key)),
                UploadId=state.upload,
                MultipartUpload={
                    "Parts": [
                        {"PartNumber": number, "ETag": f'"{etag}"'}
                        for number, etag in enumerate(state.parts, 1)
                    ]
                },
            )

    def _delete_stale(self, key: str, state: _State) -> None:
        for offset in state.stale:
            self._remove(self._tail_at(key, offset)["Key"])

    def _remove(self, name: str) -> None:
        with suppress(BlobMissing), _faults():
            self._s3.delete_object(**self._at(name))

    def _sweep(self, key: str) -> None:
        """Delete tails and uploads, also of writers that died before these could be recorded."""
        name, bucket = self._name(key), self.settings.bucket
        with _faults():
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=f"{name}.tail-"
            )
            tails = [tail["Key"] for page in pages for tail in page.get("Contents", ())]
            listings = self._s3.get_paginator("list_multipart_uploads").paginate(
                Bucket=bucket, Prefix=name
            )
            uploads = [
                upload["UploadId"]
                for page in listings
                for upload in page.get("Uploads", ())
                if upload["Key"] == name
            ]
        for tail in tails:
            self._remove(tail)
        for upload in uploads:
            self._abort(key, upload)

    def _delete_versions(self, name: str) -> None:
        """Delete what a bucket with versioning still keeps of an object, and the marks of its deletion."""
        listings = self._s3.get_paginator("list_object_versions")
        try:
            pages = list(listings.paginate(Bucket=self.settings.bucket, Prefix=name))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "NotImplemented":
                return
            raise StoreUnavailable from None
        except BotoCoreError:
            raise StoreUnavailable from None
        for page in pages:
            for one in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]:
                if one["Key"] == name or one["Key"].startswith(f"{name}.tail-"):
                    with suppress(BlobMissing), _faults():
                        self._s3.delete_object(**self._at(one["Key"]), VersionId=one["VersionId"])

    def _abort(self, key: str, upload: str) -> None:
        with suppress(_UploadMissing), _faults():
            self._s3.abort_multipart_upload(**self._at(self._name(key)), UploadId=upload)

    def _blocks(self, name: str, start: int, length: int | None) -> Iterator[bytes]:
        with _faults():
            try:
                last = "" if length is None else str(start + max(length, 1) - 1)
                answer = self._s3.get_object(**self._at(name), Range=f"bytes={start}-{last}")
            except ClientError as error:
                if _meaning(error) is not _OutOfRange:
                    raise
                yield b""
                return
            with closing(answer["Body"]) as body:
                # The first step only opens, so that `read` itself tells what is missing.
                yield b""
                if length != 0:
                    yield from body.iter_chunks(READ_BLOCK_BYTES)


class _PartPump:
    """Moves the bytes of one request into parts. Owned by one thread; two others send for it.

    It holds what came since the last full part and the parts under way, and no more. `_durable` and
    `_state` only ever name what the store has confirmed, in its order.
    """

    def __init__(
        self,
        store: S3Store,
        key: str,
        offset: int,
        state: _State,
        size: int,
        tail: bytearray,
        checkpoint: Callable[[Progress], None],
    ) -> None:
        self._store = store
        self._key = key
        self._size = size
        self._part_bytes = store.part_bytes(size)
        self._checkpoint = checkpoint
        self._state = state
        self._durable = offset
        self._received = offset
        self._buffer = tail
        self._in_flight: deque[Future[str]] = deque()
        self._senders = ThreadPoolExecutor(PARTS_IN_FLIGHT, thread_name_prefix="parts")
        self._is_over = False

    def write(self, data: memoryview | bytes) -> None:
        if self._is_over:
            raise StoreUnavailable
        if self._received + len(data) > self._size:
            raise ValueError("More bytes came than were announced.")
        view = memoryview(data)
        with self._over_when_it_fails():
            while self._in_flight and self._in_flight[0].done():
                self._confirm()
            while view:
                taken = view[: self._part_bytes - len(self._buffer)]
                self._buffer += taken
                self._received += len(taken)
                view = view[len(taken) :]
                if len(self._buffer) == self._part_bytes < self._size:
                    self._send()

    def close(self) -> Progress:
        with self:
            if not self._is_over:
                with self._over_when_it_fails():
                    self._flush()
        return self._state.at(self._durable)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over = True
        self._senders.shutdown(cancel_futures=True)
        self._in_flight.clear()
        self._buffer = bytearray()

    @contextmanager
    def _over_when_it_fails(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._is_over = True
            raise

    def _send(self) -> None:
        body, self._buffer = self._buffer, bytearray()
        if not self._state.upload:
            self._state = replace(self._state, upload=self._store.begin(self._key))
        if len(self._in_flight) == PARTS_IN_FLIGHT:
            self._confirm()
        number = len(self._state.parts) + len(self._in_flight) + 1
        self._in_flight.append(
            self._senders.submit(self._store.put_part, self._key, self._state.upload, number, body)
        )

    def _confirm(self) -> None:
        """Wait for the oldest part under way, and tell that it is durable."""
        parts = (*self._state.parts, self._in_flight.popleft().result())
        self._state = self._state.advanced(self._durable, parts=parts)
        self._durable = min(self._size, len(parts) * self._part_bytes)
        self._checkpoint(self._state.at(self._durable))

    def _flush(self) -> None:
        is_whole = self._received == self._size
        if is_whole and self._buffer and self._size > self._part_bytes:
            self._send()
        while self._in_flight:
            self._confirm()
        if self._received == self._durable:
            return
        if is_whole:
            self._store.put_whole(self._key, self._buffer)
            self._state = self._state.advanced(self._durable)
        else:
            md5 = self._store.put_tail(self._key, self._received, self._buffer)
            self._state = self._state.advanced(self._durable, tail=md5)
        self._durable = self._received


def _connect(settings: S3Settings) -> "S3Client":
    session = boto3.session.Session(
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        region_name=settings.region,
    )
    return session.client(
        "s3",
        endpoint_url=settings.endpoint_url,
        config=Config(
            connect_timeout=3,
            read_timeout=30,
            retries={"total_max_attempts": 3, "mode": "standard"},
            # One for every thread of a server process, else connections are thrown away, and logged.
            max_pool_connections=1024,
            tcp_keepalive=True,
            # Checksums in trailers are refused by some stores and ignored by others; Content-MD5
            # and the ETag serve everywhere (docs/performance.md).
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
        ),
    )


@contextmanager
def _faults() -> Iterator[None]:
    """Say in our words what went wrong; the library's own text names addresses, buckets and keys."""
    try:
        yield
    except ClientError as error:
        raise _meaning(error) from None
    except BotoCoreError:
        raise StoreUnavailable from None


def _meaning(error: ClientError) -> type[Exception]:
    return _MEANING.get(error.response.get("Error", {}).get("Code", ""), StoreUnavailable)


def _md5(body: bytes | bytearray) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _content_md5(md5: str) -> str:
    return base64.b64encode(bytes.fromhex(md5)).decode("ascii")


def _checked_etag(answer: Any, md5: str) -> str:
    """Return the ETag, and refuse it where it is an MD5 (not under SSE-KMS) of other bytes than were sent."""
    etag = str(answer["ETag"]).strip('"')
    is_md5 = _MD5_ETAG.fullmatch(etag) and "kms" not in str(answer.get("ServerSideEncryption"))
    if is_md5 and etag != md5:
        raise StoreUnavailable
    return etag
