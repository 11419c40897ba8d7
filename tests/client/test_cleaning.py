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
from pathlib import Path
from typing import Any

import av
import pillow_heif
import pytest
from av.stream import Disposition
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

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


def near(colour: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return all(abs(one - other) < 25 for one, other in zip(colour, wanted, strict=True))


def encoded(path: Path) -> list[tuple[str, bytes]]:
    """The encoded bytes of every track that is seen or heard."""
    with av.open(str(path)) as container:
        tracks = [*container.streams.video, *container.streams.audio]
        tracks = [track for track in tracks if not track.disposition & Disposition.attached_pic]
        packets: dict[int, bytes] = {track.index: b"" for track in tracks}
        for packet in container.demux(tracks):
            packets[packet.stream_index] += bytes(packet)
        return [(track.codec_context.name, packets[track.index]) for track in tracks]


def decoded(path: Path) -> list[tuple[Any, ...]]:
    """Time, rotation and visible samples of every frame."""
    with av.open(str(path)) as container:
        return [
            (frame.pts * frame.time_base, frame.rotation, *map(visible, frame.planes))
            for frame in container.decode(video=0)
        ]


def visible(plane: Any) -> bytes:
    rows, wide = bytes(plane), plane.line_size
    return b"".join(rows[at : at + plane.width] for at in range(0, wide * plane.height, wide))


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
    assert name != "mp3" or (left[0] == 0xFF and b"Lavf" not in left and b"TAG" not in left)
    for trace in (b"2019", b"x264", b"x265", b"gpmd", b"ICC", b"iCCP", b"Exif", b"udta", b"uuid"):
        assert trace not in left


@pytest.mark.parametrize("name", KINDS)
def test_what_follows_the_end_of_a_file_is_left_out_or_refused(
    originals: dict[str, Path], tmp_path: Path, name: str
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(originals[name].read_bytes() + RAW * 100)
    if name in {"flac", "amr"}:
        with pytest.raises(CannotClean, match="besides sound"):
            clean(source, target)
    else:
        clean(source, target)
        assert RAW not in target.read_bytes()


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
        r"^(IFD|ExifIFD|GPS|XMP|IPTC|Photoshop|ICC|MPF|ID3|ItemList|UserData|Keys)|"
        r":(GPS|Make|Model|Artist|Title|Comment|Author|Location|Software|Encoder\b|Creator|Serial|"
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
    with (
        Image.open(originals[name]) as before,
        Image.open(cleaned(originals[name], tmp_path)) as it,
    ):
        assert (it.mode, it.size, it.tobytes()) == (before.mode, before.size, before.tobytes()) or (
            name == "jpeg-grey" and it.mode == "L"
        )


def test_a_transparent_colour_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "source"
    image = attachments.picture("P")
    image.save(source, "PNG", transparency=image.getpixel((0, 0)))
    with Image.open(source) as before, Image.open(cleaned(source, tmp_path)) as after:
        assert after.convert("RGBA").tobytes() == before.convert("RGBA").tobytes()
        assert after.convert("RGBA").getpixel((0, 0))[3] == 0  # type: ignore[index]


def test_a_jpeg_is_encoded_with_its_own_tables(originals: dict[str, Path], tmp_path: Path) -> None:
    with (
        Image.open(originals["jpeg"]) as before,
        Image.open(cleaned(originals["jpeg"], tmp_path)) as after,
    ):
        assert after.quantization == before.quantization  # type: ignore[attr-defined]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_stands_upright_without_its_orientation(tmp_path: Path, orientation: int) -> None:
    source = tmp_path / "source"
    attachments.jpeg(source, orientation=orientation)
    with Image.open(cleaned(source, tmp_path)) as after:
        assert after.size == ((96, 64) if orientation < 5 else (64, 96))
        # Exif 2.32 §4.6.4: the left half, which is red, stays at the first row or column.
        first: Any = after.getpixel((8, 8))
        red_first = orientation in {1, 4, 5, 6}
        assert near(first, LEFT if red_first else RIGHT)


def test_a_heic_photo_stands_upright(tmp_path: Path) -> None:
    source = tmp_path / "source"
    image = pillow_heif.HeifFile()
    image.add_frombytes("RGB", (96, 64), attachments.picture().tobytes())
    image.save(source, quality=90, exif=attachments.exif(orientation=8).tobytes())
    before, after = upright_rgb(source), upright_rgb(cleaned(source, tmp_path))
    assert before.size == after.size == (64, 96)
    assert mean_difference(before, after) < 2


def test_colours_are_converted_before_their_profile_goes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    attachments.jpeg(source, icc=attachments.profile())
    with Image.open(cleaned(source, tmp_path)) as after:
        # Under the profile, whose red is green, the left half was never red.
        red, green, _ = after.getpixel((8, 8))  # type: ignore[misc]
        assert green > 150 > red
        assert "icc_profile" not in after.info


def test_a_broken_colour_profile_does_not_keep_a_photo_back(tmp_path: Path) -> None:
    source = tmp_path / "source"
    attachments.jpeg(source, icc=RAW * 20)
    assert RAW not in cleaned(source, tmp_path).read_bytes()


def test_a_broken_exif_block_does_not_keep_a_photo_back(tmp_path: Path) -> None:
    source = tmp_path / "source"
    attachments.picture().save(source, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff" + RAW)
    assert RAW not in cleaned(source, tmp_path).read_bytes()


@pytest.mark.parametrize("format_name", ["PNG", "WEBP"])
def test_animated_pictures_are_refused(tmp_path: Path, format_name: str) -> None:
    source = tmp_path / "source"
    second = Image.new("RGB", (96, 64))
    attachments.picture().save(source, format_name, save_all=True, append_images=[second])
    with pytest.raises(CannotClean, match="animated"):
        clean(source, tmp_path / "target")


def test_a_heic_file_of_several_pictures_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    images = pillow_heif.from_pillow(attachments.picture())
    images.add_from_pillow(Image.new("RGB", (96, 64)))
    images.save(source)
    with pytest.raises(CannotClean, match="several"):
        clean(source, tmp_path / "target")


@pytest.mark.parametrize("side", [14_143, 20_001, 60_000])
def test_a_decompression_bomb_is_refused(tmp_path: Path, side: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    image = b"IDAT" + zlib.compress(bytes(1000))
    source.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
            for chunk in (header, image, b"IEND")
        )
    )
    with pytest.raises(CannotClean) as refusal:
        clean(source, target)
    assert refusal.value.slug == "image-too-large"
    assert not target.exists()


@pytest.mark.parametrize("name", [name for name in MEDIA if name not in {"mp4-av1", "avi"}])
def test_sound_and_video_are_not_encoded_again(
    originals: dict[str, Path], tmp_path: Path, name: str
) -> None:
    before, after = encoded(originals[name]), encoded(cleaned(originals[name], tmp_path))
    assert [codec for codec, _ in before] == [codec for codec, _ in after]
    for (codec, one), (_, other) in zip(before, after, strict=True):
        # Free text is cut out of these two; what they show is compared below.
        if codec not in {"h264", "hevc"}:
            assert one == other


@pytest.mark.parametrize("name", ["mp4", "mp4-av1", "mov", "mov-hevc", "3gp", "webm", "mkv", "avi"])
def test_a_cleaned_film_shows_the_same_frames_at_the_same_times(
    originals: dict[str, Path], tmp_path: Path, name: str
) -> None:
    before = decoded(originals[name])
    assert len(before) == 25
    assert decoded(cleaned(originals[name], tmp_path)) == before


@pytest.mark.parametrize("name", ["opus", "vorbis", "webm", "mov", "wav", "flac"])
def test_sound_keeps_its_length(originals: dict[str, Path], tmp_path: Path, name: str) -> None:
    def samples(path: Path) -> int:
        with av.open(str(path)) as container:
            return sum(frame.samples for frame in container.decode(audio=0))

    assert samples(cleaned(originals[name], tmp_path)) == samples(originals[name])


def test_a_film_taken_sideways_is_still_shown_upright(
    originals: dict[str, Path], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    content = originals["mp4"].read_bytes()
    one, minus = struct.pack(">i", 0x10000), struct.pack(">i", -0x10000)
    zero, w = bytes(4), struct.pack(">i", 0x40000000)
    plain = one + zero * 3 + one + zero * 3 + w
    turned = zero + one + zero + minus + zero * 4 + w
    track = content.index(b"tkhd")
    at = content.index(plain, track)
    source.write_bytes(content[:at] + turned + content[at + 36 :])
    assert {frame[1] for frame in decoded(source)} == {-90}
    assert {frame[1] for frame in decoded(cleaned(source, tmp_path))} == {-90}


def test_a_film_of_times_and_places_alone_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    attachments.film(source, "mp4", extras=frozenset({"words"}))
    with pytest.raises(CannotClean):
        clean(source, tmp_path / "target")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_a_film(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    size = 256 * 1024 * 1024
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 48000, 96000, 2, 16)
    with source.open("wb") as file:
        file.write(struct.pack("<4sI4s", b"RIFF", size + 36, b"WAVE") + form)
        file.write(struct.pack("<4sI", b"data", size))
        file.truncate(44 + size)
    program = (
        "import re, sys; from pathlib import Path; from amana.client.cleaning import clean\n"
        "clean(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        # Not getrusage: its figure begins with what the parent had in memory at the fork.
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, source, target], capture_output=True, check=True
    )
    assert target.stat().st_size >= size
    assert int(run.stdout) < 120 * 1024


def test_what_is_there_already_is_never_overwritten(
    originals: dict[str, Path], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copy(originals["jpeg"], source)
    with pytest.raises(CannotClean):
        clean(source, source)
    assert source.read_bytes() == originals["jpeg"].read_bytes()


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotClean):
        clean(tmp_path / "nothing", tmp_path / "target")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_called_by_its_name(
    originals: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def full(path: Path, mode: str = "r") -> Any:
        return (
            opened(Path("/dev/full"), "w+b", buffering=0) if mode == "x+b" else opened(path, mode)
        )

    monkeypatch.setattr(Path, "open", full)
    monkeypatch.setattr(Path, "unlink", lambda _: None)
    for name in ("wav", "png"):
        with pytest.raises(CannotClean) as refusal:
            clean(originals[name], tmp_path / "target")
        assert refusal.value.slug == "disk-full"


@pytest.mark.parametrize("name", KINDS)
def test_a_refusal_tells_no_name_and_no_content(
    originals: dict[str, Path],
    tmp_path: Path,
    name: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    source, target = tmp_path / f"{CANARY}.jpg", tmp_path / f"{CANARY}-target"
    content = originals[name].read_bytes()
    source.write_bytes(content[:64] + RAW * 20)
    with caplog.at_level(logging.DEBUG):
        clean(originals[name], tmp_path / "whole")
        with pytest.raises(CannotClean) as refusal:
            clean(source, target)
    error = refusal.value
    assert error.__cause__ is None
    assert error.__context__ is None
    out, err = capfd.readouterr()
    assert CANARY not in str(error) + caplog.text + out + err
    assert not target.exists()


def attempt(content: bytes) -> None:
    """Clean whatever this is; only a refusal may come of it, and it leaves nothing behind."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        source.write_bytes(content)
        sniff_mime(source)
        try:
            clean(source, target)
        except CannotClean:
            assert not target.exists()
        else:
            assert target.exists()


fuzzing = settings(
    deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@fuzzing
@given(data=st.data())
def test_damaged_files_are_cleaned_or_refused(
    originals: dict[str, Path], data: st.DataObject
) -> None:
    content = bytearray(originals[data.draw(st.sampled_from(sorted(KINDS)))].read_bytes())
    places = st.integers(0, len(content) - 1) | st.integers(0, min(len(content) - 1, 400))
    for at, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=12)):
        content[at] = byte
    attempt(bytes(content[: data.draw(st.none() | places)]))


@fuzzing
@given(
    magic=st.sampled_from(
        [
            b"",
            b"\xff\xd8\xff\xe1",
            b"\x89PNG\r\n\x1a\n",
            b"RIFF\xff\0\0\0WEBPVP8X",
            b"RIFF\xff\0\0\0WAVEfmt ",
            b"RIFF\xff\0\0\0AVI LIST",
            b"\0\0\0\x18ftypheic\0\0\0\0heicmif1",
            b"\0\0\0\x14ftypmp42\0\0\0\0mp42",
            b"\x1aE\xdf\xa3",
            b"OggS\0\2",
            b"fLaC",
            b"ID3\4\0\0\0\0\0\5",
            b"\xff\xfb\x90",
            b"\xff\xf1\x50",
            b"#!AMR\n",
            b"\0\0\0\x10moov",
        ]
    ),
    rest=st.binary(max_size=3000),
)
def test_random_bytes_are_cleaned_or_refused(magic: bytes, rest: bytes) -> None:
    attempt(magic + rest)


@pytest.mark.parametrize("name", ["photo.jpg", "voice.ogg", "video.mp4"])
def test_the_samples_are_cleaned_of_what_was_put_into_them(tmp_path: Path, name: str) -> None:
    sample = Path(__file__).parents[2] / "samples" / name
    assert b"SYNTHETIC" in sample.read_bytes()
    left = cleaned(sample, tmp_path).read_bytes()
    for planted in (b"SYNTHETIC", b"+00.0000", b"2000-01-01", b"2000:01:01", b"loci", b"x264"):
        assert planted not in left
