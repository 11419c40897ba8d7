"""A bundle of any size is made, sealed, opened and checked in the same memory, and a person sees how far it is."""

import hashlib
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amana.client.bundle import Chunks, Source, archive, archive_size, opened_bundle, size_of
from amana.client.bundlecheck import read_contents
from amana.client.progress import Advance
from amana.protocol.opening import make_opening
from amana.protocol.sealing import Identity, seal_stream

MIB = 2**20
CASE, PARTNER = Identity.generate(), Identity.generate()


def zeros(size: int) -> Iterator[bytes]:
    for _ in range(size // MIB):
        yield bytes(MIB)


def read(place: Path) -> Iterator[bytes]:
    with place.open("rb") as file:
        while block := file.read(MIB):
            yield block


def sealed_object(folder: Path, mib: int) -> dict[str, Source]:
    """Return an object of a testimony, sealed, with its opening and open."""
    size, digest = mib * MIB, hashlib.sha256()
    for block in zeros(size):
        digest.update(block)
    sealed = folder / f"{mib}.age"
    with sealed.open("wb") as target:
        source = Chunks(zeros(size))  # type: ignore[arg-type]
        made = seal_stream(source, target, CASE.recipient, size)  # type: ignore[arg-type]
    with sealed.open("rb") as file:
        opening = bytes(
            make_opening(
                file, CASE, sealed_sha256=made.sealed_sha256, sha256=digest.hexdigest(), length=size
            )
        )
    return {
        "data/openings/1.json": Source(
            len(opening), hashlib.sha256(opening).hexdigest(), lambda: iter((opening,))
        ),
        "data/files/1.bin": Source(size, digest.hexdigest(), lambda: zeros(size)),
        "data/sealed/1.age": Source(made.sealed_size, made.sealed_sha256, lambda: read(sealed)),
    }


@contextmanager
def counted() -> Iterator[tuple[list[int], Advance]]:
    seen: list[int] = []
    yield seen, seen.append


def travel(folder: Path, mib: int) -> int:
    """Seal a bundle to a partner, and let them check it; returns the most memory that was held."""
    files, bundle = sealed_object(folder, mib), folder / f"bundle-{mib}.age"
    size = archive_size(files)
    tracemalloc.start()
    try:
        with bundle.open("wb") as target, counted() as (sealing, advance):
            source = Chunks(archive(files))
            seal_stream(source, target, PARTNER.recipient, size, progress=advance)  # type: ignore[arg-type]
        with opened_bundle(bundle, PARTNER) as entries, counted() as (checking, advance):
            contents = read_contents(entries, advance)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert contents.fault is None
    assert contents.opened == {1: None}
    assert contents.hashes == {path: one.sha256 for path, one in files.items()}
    # The bars reach their ends, in steps of a few hundredths.
    assert sum(sealing) == size
    assert sum(checking) == sum(one.size for one in files.values()) < size_of(bundle)
    assert max(*sealing, *checking) <= MIB
    return peak


def test_a_bundle_takes_the_same_memory_for_any_length(tmp_path: Path) -> None:
    assert travel(tmp_path, 32) < travel(tmp_path, 4) + MIB < 24 * MIB
