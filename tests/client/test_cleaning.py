# SPDX-License-Identifier: AGPL-3.0-or-later
"""The reviewers' copy holds what can be seen and heard, and no canary, place, device, time or name."""

import json
import logging
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pillow_heif
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageCms

from amana.client.cleaning import CannotClean, clean, sniff_mime
from tests.support import attachments
from tests.support.attachments import CANARY, LEFT, MEDIA, PHOTOS, RAW, RIGHT

KINDS = PHOTOS | MEDIA
SUFFIXES = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/heic": ".heic",
    "video/mp4": ".mp4",
    "audio/mp4": ".m4a",
    "video/quicktime": ".mov",
    "video/3gpp": ".3gp",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
    "audio/ogg": ".ogg",
    "audio/mpeg": ".mp3",
    "audio/wav": ".wav",
    "audio/flac": ".flac",
    "audio/aac": ".aac",
    "audio/amr": ".amr",
    "video/x-msvideo": ".avi",
}


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file of each kind, under a name that tells nothing of its kind."""
    folder = tmp_path_factory.mktemp("originals")
    for name, (_, build) in KINDS.items():
        build(folder / name)
    return {name: folder / name for name in KINDS}


def cleaned(source: Path, folder: Path) -> Path:
    target = folder / "cleaned"
    clean(source, target)
    return target


def upright_rgb(path: Path) -> Image.Image:
    if sniff_mime(path) == "image/heic":
        return pillow_heif.open_heif(path).to_pillow().convert("RGB")
    with Image.open(path) as image:
        return image.convert("RGB")


def mean_difference(one: Image.Image, other: Image.Image) -> float:
    histogram = ImageChops.difference(one, other).convert("L").histogram()
    return sum(value * count for value, count in enumerate(histogram)) / sum(histogram)


def encoded(path: Path) -> list[tuple[str, bytes]]:
    """The encoded bytes of every track that is seen or heard."""
    with av.open(str(path)) as container:
        tracks = [*container.streams.video, *container.streams.audio]
        tracks = [track for track in tracks if not track.disposition & 0x400]
        packets: dict[int, bytes] = {track.index: b"" for track in tracks}
        for packet in container.demux(tracks):
            packets[packet.stream_index] += bytes(packet)
        return [(track.codec_context.name, packets[track.index]) for track in tracks]


def decoded(path: Path) -> list[tuple[Any, ...]]:
    with av.open(str(path)) as container:
        return [
            (frame.pts * frame.time_base, frame.rotation, *(bytes(plane) for plane in frame.planes))
            for frame in container.decode(video=0)
        ]


def test_every_kind_is_known_by_its_content(originals: dict[str, Path]) -> None:
    assert {name: sniff_mime(path) for name, path in originals.items()} == {
        name: mime for name, (mime, _) in KINDS.items()
    }


@pytest.mark.parametrize(
    ("content", "mime"),
    [
        (b"%PDF-1.7", "application/pdf"),
        ("شهادة".encode()[:-1], "text/plain"),
        (b"GIF89a", "image/gif"),
        (b"MZ\x90\x00", "application/octet-stream"),
        (b"", "application/octet-stream"),
        (b"RIFF\0\0\0\0SFBK", "application/octet-stream"),
        (b"\0\0\0\x18ftypavif\0\0\0\0avifmif1", "application/octet-stream"),
    ],
)
def test_kinds_that_cannot_be_cleaned_are_refused(
    tmp_path: Path, content: bytes, mime: str
) -> None:
    source, target = tmp_path / "photo.jpg", tmp_path / "target"
    source.write_bytes(content)
    assert sniff_mime(source) == mime
    with pytest.raises(CannotClean) as refusal:
        clean(source, target)
    assert (refusal.value.slug, refusal.value.exit_status) == ("cannot-clean", 2)
    assert not target.exists()


@pytest.mark.parametrize("name", KINDS)
def test_nothing_that_was_planted_is_left(
    originals: dict[str, Path], tmp_path: Path, name: str
) -> None:
    original = originals[name].read_bytes()
    assert name == "amr" or RAW in original
    target = tmp_path / "target"
    done: list[int] = []
    result = clean(originals[name], target, progress=done.append)
    mime = KINDS[name][0]
    assert (result.mime, result.cleaned, result.suffix) == (mime, True, SUFFIXES[mime])
    assert sniff_mime(target) == mime
    assert sum(done) == len(original)
    left = target.read_bytes()
    assert RAW not in left
    assert CANARY.encode("utf-16-le") not in left
    for trace in (b"2019", b"x264", b"x265", b"gpmd", b"ICC", b"iCCP", b"Exif", b"udta", b"uuid"):
        assert trace not in left


@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
@pytest.mark.parametrize("name", KINDS)
def test_an_independent_reader_finds_only_structure(
    originals: dict[str, Path], tmp_path: Path, name: str
) -> None:
    target = cleaned(originals[name], tmp_path)
    out = subprocess.run(
        ["exiftool", "-j", "-a", "-u", "-ee", "-G1", "-s", str(target)],
        capture_output=True,
        check=False,
    )
    telling = re.compile(
        r"^(IFD|Exif|GPS|XMP|IPTC|Photoshop|ICC|MPF|ID3|ItemList|UserData|Keys)|"
        r":(GPS|Make|Model|Artist|Title|Comment|Author|Location|Software|Encoder|Creator|Serial|"
        r"Lens|Owner|Description|HandlerDescription|\w*Date|Thumbnail|Preview(Image)?$|Cover|Picture|"
        r"Chapter|Language|Tag(Name|String)|Trailer|Warning)"
    )
    told = {
        key: value
        for key, value in json.loads(out.stdout)[0].items()
        if telling.search(key) and not key.startswith(("System:", "File:"))
    }
    assert set(told.values()) <= {"0000:00:00 00:00:00"}


@pytest.mark.parametrize("name", PHOTOS)
def test_a_cleaned_photo_shows_the_same_picture(
    originals: dict[str, Path], tmp_path: Path, name: str
) -> None:
    target = cleaned(originals[name], tmp_path)
    before, after = upright_rgb(originals[name]), upright_rgb(target)
    assert before.size == after.size
    lossless = name.startswith("png") or name == "webp-lossless"
    assert mean_difference(before, after) <= (0 if lossless else 2)


@pytest.mark.parametrize("name", ["png-palette", "png-alpha", "png-16", "jpeg-grey"])
def test_a_cleaned_photo_keeps_the_form_of_its_pixels(
    originals: dict[str, Path], tmp_path: Path, name: str
) -> None:
    with Image.open(originals[name]) as before, Image.open(cleaned(originals[name], tmp_path)) as it:
        assert (it.mode, it.size, it.tobytes()) == (before.mode, before.size, before.tobytes()) or (
            name == "jpeg-grey" and it.mode == "L"
        )


def test_a_transparent_colour_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "source"
    attachments.picture("P").save(source, "PNG", transparency=0)
    with Image.open(source) as before, Image.open(cleaned(source, tmp_path)) as after:
        assert after.convert("RGBA").tobytes() == before.convert("RGBA").tobytes()
        assert after.convert("RGBA").getextrema()[3][0] == 0


def test_a_jpeg_is_encoded_with_its_own_tables(originals: dict[str, Path], tmp_path: Path) -> None:
    with Image.open(originals["jpeg"]) as before, Image.open(
        cleaned(originals["jpeg"], tmp_path)
    ) as after:
        assert after.quantization == before.quantization  # type: ignore[attr-defined]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_stands_upright_without_its_orientation(tmp_path: Path, orientation: int) -> None:
    source = tmp_path / "source"
    attachments.jpeg(source, orientation=orientation)
    with Image.open(cleaned(source, tmp_path)) as after:
        assert after.size == ((96, 64) if orientation < 5 else (64, 96))
        # Exif 2.32 §4.6.4: where row 0 and column 0 of the stored picture, which is red, stand.
        right, below = orientation in {2, 3, 7, 8}, orientation in {3, 4, 6, 7}
        on_its_side = orientation >= 5
        red_at_start = not ({5: False, 6: False, 7: True, 8: True} if on_its_side else {
            1: False, 2: True, 3: True, 4: False})[orientation]
        assert right in {True, False}
        assert below in {True, False}
        first = after.convert("RGB").getpixel((8, 8))
        expected = LEFT if red_at_start else RIGHT
        assert all(abs(a - b) < 25 for a, b in zip(first, expected, strict=True))  # type: ignore[arg-type]
