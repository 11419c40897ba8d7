# SPDX-License-Identifier: AGPL-3.0-or-later
"""Attachments with a canary, a place, a device and a time planted wherever their formats have room."""

import io
import math
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pillow_heif
from av.stream import Disposition
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

CANARY = "Zk7Canary"
RAW = CANARY.encode()
TIME = "2019-03-03T03:03:03Z"
TAGS = {
    "title": CANARY,
    "artist": CANARY,
    "comment": CANARY,
    "location": f"+33.5138+036.2765/{CANARY}",
    "creation_time": TIME,
    "encoder": CANARY,
    "com.apple.quicktime.make": CANARY,
    "com.apple.quicktime.location.ISO6709": f"+33.5138+036.2765/{CANARY}",
}
XMP = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a>{CANARY}</a></x:xmpmeta>'.encode()
LEFT, RIGHT = (200, 30, 30), (30, 30, 200)


# Photographs with everything in them


def picture(mode: str = "RGB") -> Image.Image:
    """A soft gradient of 96 x 64 pixels, its left half red, its right half blue."""
    image = Image.new("RGB", (96, 64), RIGHT)
    image.paste(LEFT, (0, 0, 48, 64))
    return image.convert(mode)


def exif(orientation: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[0x010F] = tags[0x0110] = tags[0x013B] = CANARY
    tags[0x0132] = "2019:03:03 03:03:03"
    tags[0x0112] = orientation
    tags.get_ifd(0x8769).update({0x927C: RAW * 4, 0x9003: "2019:03:03 03:03:03"})
    tags.get_ifd(0x8825).update({1: "N", 2: (33.0, 30.0, 49.0), 3: "E", 4: (36.0, 16.0, 35.0)})
    return tags


def profile() -> bytes:
    """A colour profile whose red is green and whose green is red."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = data.replace(b"rXYZ", b"____", 1).replace(b"gXYZ", b"rXYZ", 1)
    return data.replace(b"____", b"gXYZ", 1)


def jpeg(path: Path, *, orientation: int = 1, icc: bytes | None = None, **more: Any) -> None:
    out = io.BytesIO()
    picture(more.pop("mode", "RGB")).save(
        out,
        "JPEG",
        quality=88,
        exif=exif(orientation),
        xmp=XMP,
        comment=RAW,
        icc_profile=icc,
        **more,
    )
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\x00\x00\x00\x00\x00\x0e\x1c\x02\x5a\x00\x09" + RAW
    segment = b"\xff\xed" + struct.pack(">H", len(iptc) + 2) + iptc
    data = out.getvalue()
    # Phones append the film of a "motion photo" to the picture.
    path.write_bytes(data[:2] + segment + data[2:] + b"MotionPhoto_Data" + RAW)


def mpo(path: Path) -> None:
    second = Image.new("RGB", (96, 64), (0, 255, 0))
    picture().save(path, "MPO", save_all=True, append_images=[second], exif=exif())


def png(path: Path, mode: str = "RGB") -> None:
    text = PngInfo()
    text.add_text("Author", CANARY)
    text.add_itxt("Comment", CANARY, zip=False)
    text.add(b"tIME", struct.pack(">HBBBBB", 2019, 3, 3, 3, 3, 3))
    text.add(b"prVt", RAW)
    picture(mode).save(path, "PNG", pnginfo=text, exif=exif(), dpi=(300, 300))
    path.write_bytes(path.read_bytes() + RAW)


def webp(path: Path, *, lossless: bool = False) -> None:
    picture().save(path, "WEBP", lossless=lossless, quality=90, exif=exif(), xmp=XMP)


def heic(path: Path) -> None:
    pillow_heif.from_pillow(picture()).save(path, quality=90, exif=exif().tobytes(), xmp=XMP)


PHOTOS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "jpeg": ("image/jpeg", jpeg),
    "jpeg-grey": ("image/jpeg", lambda path: jpeg(path, mode="L")),
    "jpeg-cmyk": ("image/jpeg", lambda path: jpeg(path, mode="CMYK")),
    "mpo": ("image/jpeg", mpo),
    "png": ("image/png", png),
    "png-palette": ("image/png", lambda path: png(path, "P")),
    "png-alpha": ("image/png", lambda path: png(path, "RGBA")),
    "png-16": ("image/png", lambda path: png(path, "I;16")),
    "webp": ("image/webp", webp),
    "webp-lossless": ("image/webp", lambda path: webp(path, lossless=True)),
    "heic": ("image/heic", heic),
}


# Sound and video with everything in them


def film(
    path: Path,
    muxer: str,
    video: str | None = None,
    audio: str | None = None,
    *,
    extras: frozenset[str] = frozenset(),
    **options: str,
) -> None:
    """Make a second of moving pictures and sound, with any of cover, words, chapters."""
    with av.open(str(path), "w", format=muxer, container_options=options) as container:
        container.metadata.update(TAGS)
        streams: list[Any] = []
        if video:
            quiet = {"x265-params": "log-level=none"} if video == "libx265" else None
            streams.append(
                container.add_stream(video, rate=25, width=176, height=144, options=quiet)
            )
            streams[-1].pix_fmt = "yuvj420p" if video == "mjpeg" else "yuv420p"
        if audio:
            rate = 8000 if audio == "libopencore_amrnb" else 48000
            layout = "stereo" if audio == "vorbis" else "mono"
            strict = {"strict": "experimental"} if audio == "vorbis" else None
            streams.append(container.add_stream(audio, rate=rate, layout=layout, options=strict))
        for stream in streams:
            stream.metadata.update({"handler_name": CANARY, "language": "ara", "title": CANARY})
        if "chapters" in extras:
            chapter: Any = {"id": 1, "start": 0, "end": 900, "time_base": Fraction(1, 1000)}
            container.set_chapters([chapter | {"metadata": {"title": CANARY}}])
        late: list[tuple[Any, bytes]] = []
        if "cover" in extras:
            cover = container.add_stream("mjpeg", rate=1, width=96, height=64)
            cover.disposition = Disposition.attached_pic
            cover.pix_fmt = "yuvj420p"
            late.append((cover, _small_jpeg()))
        if "words" in extras:
            late.append((container.add_mux_stream("mov_text"), struct.pack(">H", len(RAW)) + RAW))
        container.start_encoding()
        for stream, data in late:
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = 0
            packet.duration, packet.is_keyframe = 900, True
            container.mux(packet)
        for stream in streams:
            for frame in _frames(stream):
                container.mux([_commented(packet) for packet in stream.encode(frame)])
            container.mux(stream.encode(None))


def _commented(packet: Any) -> Any:
    """Put a comment into a JPEG frame, as some cameras do; leave other packets alone."""
    data = bytes(packet)
    if data[:3] != b"\xff\xd8\xff":
        return packet
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(RAW)) + RAW
    commented = av.Packet(data[:2] + comment + data[2:])
    commented.stream, commented.time_base = packet.stream, packet.time_base
    commented.pts, commented.dts, commented.duration = packet.pts, packet.dts, packet.duration
    commented.is_keyframe = True
    return commented


def _small_jpeg() -> bytes:
    out = io.BytesIO()
    picture().save(out, "JPEG", comment=RAW)
    return out.getvalue()


def _frames(stream: Any) -> Iterator[Any]:
    if stream.type == "video":
        for index in range(25):
            frame = av.VideoFrame(176, 144, stream.pix_fmt)
            for plane in frame.planes:
                row = bytes((index * 5 + x) % 200 + 20 for x in range(plane.line_size))
                plane.update(row * plane.height)
            frame.pts = index
            yield frame
        return
    rate = stream.rate
    tone = [int(9000 * math.sin(at * 2 * math.pi * 440 / rate)) for at in range(rate)]
    step = 960 if rate == 48000 else 160
    resampler = av.AudioResampler(
        stream.format.name, stream.layout.name, rate, stream.frame_size or step
    )
    # The end is no multiple of any frame, so that encoders must say how much of their last is silence.
    for at in range(0, rate - 123, step):
        samples = tone[at : min(at + step, rate - 123)]
        sound = av.AudioFrame("s16", "mono", len(samples))
        sound.planes[0].update(struct.pack(f"<{len(samples)}h", *samples))
        sound.sample_rate, sound.pts = rate, at
        yield from resampler.resample(sound)
    yield from resampler.resample(None)


def mp4(path: Path) -> None:
    everything = frozenset({"cover", "words", "chapters"})
    film(path, "mp4", "libx264", "aac", extras=everything, movflags="+use_metadata_tags")
    box = struct.pack(">I4s16s", 24 + len(RAW), b"uuid", bytes(16)) + RAW
    path.write_bytes(path.read_bytes() + box)


def mp4_with_places(path: Path) -> None:
    """A track of sensor data beside the pictures, as action cameras and phones write it."""
    film(path, "mp4", "libx264", "aac", extras=frozenset({"words", "cover"}))
    path.write_bytes(path.read_bytes().replace(b"tx3g", b"gpmd").replace(b"sbtl", b"meta"))


def mkv(path: Path) -> None:
    """The comments of Vorbis lie in the codec's own headers here, out of reach of a tag editor."""
    plain = path.with_suffix(".plain")
    film(plain, "matroska", "libx264", "vorbis")
    comment = b"\x03vorbis" + struct.pack("<I", len(RAW)) + RAW + bytes(4) + b"\x01"
    with av.open(str(plain)) as source, av.open(str(path), "w", format="matroska") as target:
        target.metadata.update(TAGS)
        target.add_attachment(CANARY, "text/plain", RAW)
        chapter: Any = {"id": 1, "start": 0, "end": 900, "time_base": Fraction(1, 1000)}
        target.set_chapters([chapter | {"metadata": {"title": CANARY}}])
        streams: list[Any] = [
            target.add_stream_from_template(stream, opaque=True) for stream in source.streams
        ]
        context = streams[1].codec_context
        # The first header has 30 bytes, the old comment 16.
        first, third = context.extradata[3:33], context.extradata[33 + context.extradata[2] :]
        context.extradata = bytes((2, 30, len(comment))) + first + comment + third
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    plain.unlink()


def m4a(path: Path) -> None:
    film(path, "mp4", None, "aac", extras=frozenset({"cover"}), brand="M4A ")


def mp3(path: Path) -> None:
    film(path, "mp3", None, "libmp3lame", extras=frozenset({"cover"}))
    path.write_bytes(path.read_bytes() + b"TAG" + RAW.ljust(125, b" "))


def aac(path: Path) -> None:
    film(path, "adts", None, "aac", write_id3v2="1")


def flac(path: Path) -> None:
    film(path, "flac", None, "flac", extras=frozenset({"cover"}))


MEDIA: dict[str, tuple[str, Callable[[Path], None]]] = {
    "mp4": ("video/mp4", mp4),
    "mp4-places": ("video/mp4", mp4_with_places),
    "mp4-av1": ("video/mp4", lambda path: film(path, "mp4", "libsvtav1")),
    "m4a": ("audio/mp4", m4a),
    "mov": ("video/quicktime", lambda path: film(path, "mov", "libx264", "pcm_s16le")),
    "mov-hevc": ("video/quicktime", lambda path: film(path, "mov", "libx265", "aac")),
    "3gp": ("video/3gpp", lambda path: film(path, "3gp", "h263", "libopencore_amrnb")),
    "webm": ("video/webm", lambda path: film(path, "webm", "libvpx", "libopus")),
    "mkv": ("video/x-matroska", mkv),
    "opus": ("audio/ogg", lambda path: film(path, "ogg", None, "libopus")),
    "vorbis": ("audio/ogg", lambda path: film(path, "ogg", None, "vorbis")),
    "mp3": ("audio/mpeg", mp3),
    "wav": ("audio/wav", lambda path: film(path, "wav", None, "pcm_s16le", write_bext="1")),
    "flac": ("audio/flac", flac),
    "aac": ("audio/aac", aac),
    "amr": ("audio/amr", lambda path: film(path, "amr", None, "libopencore_amrnb")),
    "avi": ("video/x-msvideo", lambda path: film(path, "avi", "mjpeg", "pcm_s16le")),
}
