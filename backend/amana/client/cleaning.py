# SPDX-License-Identifier: AGPL-3.0-or-later
"""The reviewers' copy of an attachment: what can be seen and heard, without place, device, time or name.

It refuses what it cannot clean. It cannot remove what is said and shown, the noise of a sensor or a
microphone, nor the names of encoders within compressed sound and within video older than H.264.
"""

import codecs
import errno
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import av
import av.logging
import pillow_heif
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin

from amana.client.errors import Usage

PIXEL_LIMIT: Final = 200_000_000
PHOTO_LIMIT_BYTES: Final = 256 * 1024 * 1024

# Both libraries can write what they read, tags and names, to a log.
av.logging.set_level(None)
logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)
# Pillow warns above this number and refuses only above its double; here a warning is a refusal.
Image.MAX_IMAGE_PIXELS = PIXEL_LIMIT


class CannotClean(Usage):
    """The attachment is of a kind, or in a state, of which no cleaned copy can be made."""

    slug = "cannot-clean"


@dataclass(frozen=True)
class Cleaned:
    """A copy that was made and checked: its media type, and the suffix that fits it (".jpg")."""

    mime: str
    cleaned: bool
    suffix: str


@dataclass(frozen=True)
class _Photo:
    mime: str
    suffix: str
    format: str


@dataclass(frozen=True)
class _Media:
    """A container: its names in FFmpeg, and its media types with and without pictures."""

    mime: str
    suffix: str
    demuxer: str
    muxer: str
    audio_mime: str
    audio_suffix: str


@dataclass(frozen=True)
class _Other:
    mime: str


_Kind = _Photo | _Media | _Other
_Track = VideoStream | AudioStream

_JPEG = _Photo("image/jpeg", ".jpg", "JPEG")
_PNG = _Photo("image/png", ".png", "PNG")
_WEBP = _Photo("image/webp", ".webp", "WEBP")
_HEIC = _Photo("image/heic", ".heic", "HEIF")
_MP4 = _Media("video/mp4", ".mp4", "mov", "mp4", "audio/mp4", ".m4a")
_M4A = _Media("video/mp4", ".mp4", "mov", "ipod", "audio/mp4", ".m4a")
_MOV = _Media("video/quicktime", ".mov", "mov", "mov", "video/quicktime", ".mov")
_3GP = _Media("video/3gpp", ".3gp", "mov", "3gp", "audio/3gpp", ".3gp")
_WEBM = _Media("video/webm", ".webm", "matroska", "webm", "audio/webm", ".webm")
_MKV = _Media("video/x-matroska", ".mkv", "matroska", "matroska", "audio/x-matroska", ".mka")
_OGG = _Media("video/ogg", ".ogv", "ogg", "ogg", "audio/ogg", ".ogg")
_AVI = _Media("video/x-msvideo", ".avi", "avi", "avi", "video/x-msvideo", ".avi")


def _sound(mime: str, suffix: str, demuxer: str, muxer: str) -> _Media:
    return _Media(mime, suffix, demuxer, muxer, mime, suffix)


_MP3 = _sound("audio/mpeg", ".mp3", "mp3", "mp3")
_WAV = _sound("audio/wav", ".wav", "wav", "wav")
_FLAC = _sound("audio/flac", ".flac", "flac", "flac")
_AAC = _sound("audio/aac", ".aac", "aac", "adts")
_AMR = _sound("audio/amr", ".amr", "amr", "amr")

_MAGIC: Final[tuple[tuple[_Kind, int, tuple[bytes, ...]], ...]] = (
    (_JPEG, 0, (b"\xff\xd8\xff",)),
    (_PNG, 0, (b"\x89PNG\r\n\x1a\n",)),
    (_WEBP, 8, (b"WEBP",)),
    (_WAV, 8, (b"WAVE",)),
    (_AVI, 8, (b"AVI ",)),
    (_OGG, 0, (b"OggS",)),
    (_FLAC, 0, (b"fLaC",)),
    (_AMR, 0, (b"#!AMR",)),
    # QuickTime files older than "ftyp" begin with any of these boxes.
    (_MOV, 4, (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),
    (_Other("application/pdf"), 0, (b"%PDF-",)),
    (_Other("image/gif"), 0, (b"GIF8",)),
    (_Other("image/tiff"), 0, (b"II*\x00", b"MM\x00*")),
    (_Other("application/zip"), 0, (b"PK\x03\x04",)),
)
_UNKNOWN: Final = _Other("application/octet-stream")

# What a finished copy may say about itself: the fields that its format demands.
_PHOTO_FIELDS: Final = {
    "JPEG": {"jfif", "jfif_version", "jfif_unit", "jfif_density"},
    "PNG": {"transparency"},
    "WEBP": {"loop", "background", "timestamp", "duration"},
    "HEIF": {"bit_depth", "chroma", "primary", "tile_size", "nclx_profile"},
}
_MEDIA_FIELDS: Final = {"major_brand", "minor_version", "compatible_brands", "duration"}
_MEDIA_VALUES: Final = {"Lavf", "FFMP", "und", "", "[0][0][0][0]"}

# How to stand a picture upright, by its orientation (Exif 2.32 §4.6.4).
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_ISO_OPTIONS: Final = {"empty_hdlr_name": "1", "write_tmcd": "0"}
_MUXER_OPTIONS: Final = {
    "mp4": _ISO_OPTIONS,
    "ipod": _ISO_OPTIONS,
    "mov": _ISO_OPTIONS,
    "3gp": _ISO_OPTIONS,
    "mp3": {"write_xing": "0", "id3v2_version": "0", "write_id3v1": "0"},
    "wav": {"rf64": "auto"},
}
# Units of a bitstream that carry free text or sensor data and that no picture needs:
# SEI (ITU-T H.264 §7.4.1, H.265 §7.4.2.2), metadata and padding (AV1 §6.2.2), user data (H.262).
_FREE_UNITS: Final = {"h264": "6", "hevc": "39|40", "av1": "5|15", "mpeg2video": "178"}
_EMPTY_XIPH_COMMENT: Final = {
    "vorbis": b"\x03vorbis" + bytes(8) + b"\x01",
    "theora": b"\x81theora" + bytes(8),
}


def clean(source: Path, target: Path, *, progress: Callable[[int], None] | None = None) -> Cleaned:
    """Write to `target`, which must not exist, a copy of `source` that tells nothing but its content.

    Photographs are decoded and encoded anew, upright and in sRGB; sound and video are not encoded
    again: they lose free-text units and get a new container. `progress` is told how many further
    bytes of the source are done. Raises CannotClean, with nothing left at `target`, for other kinds,
    damaged files, animated pictures, and pictures of more than 200 megapixels.
    """
    try:
        with source.open("rb") as reader:
            kind = _kind(reader)
            size = reader.seek(0, os.SEEK_END)
            reader.seek(0)
            report = _Progress(size, progress or (lambda _: None))
            if isinstance(kind, _Other):
                raise CannotClean("This kind of file cannot be cleaned of its metadata.")
            with target.open("x+b") as writer:
                try:
                    cleaned = (
                        _clean_photo(reader, writer, kind, size)
                        if isinstance(kind, _Photo)
                        else _clean_media(reader, writer, kind, report)
                    )
                except BaseException:
                    target.unlink()
                    raise
            report.finish()
            return cleaned
    except Exception as error:
        refusal = _refusal(error)
    # Raised here, so that the texts of libraries, with their names and bytes, do not travel along.
    raise refusal


def sniff_mime(source: Path) -> str:
    """Return the media type of `source` by its content; application/octet-stream if unknown."""
    with source.open("rb") as reader:
        kind = _kind(reader)
        if not isinstance(kind, _Media):
            return kind.mime
        reader.seek(0)
        try:
            with _demuxing(reader, kind) as container:
                return kind.mime if _has_pictures(_kept(container)) else kind.audio_mime
        except Exception:
            return kind.mime


class _Progress:
    """Tells the caller of advancing bytes, never more than the size of the source in total."""

    def __init__(self, size: int, tell: Callable[[int], None]) -> None:
        self._left = size
        self._tell = tell

    def advance(self, count: int) -> None:
        step = min(count, self._left)
        self._left -= step
        self._tell(step)

    def finish(self) -> None:
        self.advance(self._left)


def _refusal(error: Exception) -> CannotClean:
    """Turn what went wrong into a sentence of ours."""
    if isinstance(error, CannotClean):
        return error
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return CannotClean("The picture is too large to be cleaned.", slug="image-too-large")
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return CannotClean("There is no room on the disk for the cleaned copy.", slug="disk-full")
    return CannotClean("The file is damaged, or is not what it seems, and cannot be cleaned.")


# What kind of file it is


def _kind(reader: IO[bytes]) -> _Kind:
    """Decide by the first bytes, past any ID3v2 tag; the name of a file proves nothing."""
    head = reader.read(4096)
    tagged = head[:3] == b"ID3" and len(head) >= 10
    if tagged:
        # ID3v2.4 §3.1: the size is four bytes of seven bits, without the header of ten.
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte & 0x7F
        reader.seek(10 + size)
        head = reader.read(4096)
    if head[4:8] == b"ftyp":
        return _iso_kind(head)
    if head[:4] == b"\x1aE\xdf\xa3":
        return _WEBM if b"webm" in head[:64] else _MKV
    for kind, at, magics in _MAGIC:
        in_riff = at != 8 or head[:4] in {b"RIFF", b"RF64"}
        if in_riff and any(head.startswith(magic, at) for magic in magics):
            return kind
    if len(head) >= 4 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return _AAC
    return _MP3 if tagged or _is_mp3_frame(head) else _text_or_unknown(head)


def _iso_kind(head: bytes) -> _Kind:
    """Tell the kinds of ISO base media files apart by their brands (ISO/IEC 14496-12 §4.3)."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size, 4))]
    major = brands[0]
    if major in {b"heic", b"heix", b"heim", b"heis", b"mif1"}:
        return _HEIC if {b"heic", b"heix"} & set(brands) else _UNKNOWN
    if major in {b"hevc", b"hevx", b"msf1", b"avif", b"avis"}:
        return _UNKNOWN
    if major == b"qt  ":
        return _MOV
    if major[:2] == b"3g":
        return _3GP
    return _M4A if major in {b"M4A ", b"M4B "} else _MP4


def _is_mp3_frame(head: bytes) -> bool:
    """Tell whether an MPEG audio layer III frame begins here (ISO/IEC 11172-3 §2.4.2.3)."""
    return (
        len(head) >= 4
        and head[0] == 0xFF
        and head[1] & 0xE6 == 0xE2
        and head[1] & 0x18 != 0x08
        and head[2] & 0xF0 != 0xF0
        and head[2] & 0x0C != 0x0C
    )


def _text_or_unknown(head: bytes) -> _Other:
    try:
        # The last character may be cut.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return _UNKNOWN
    plain = text and all(letter.isprintable() or letter.isspace() for letter in text)
    return _Other("text/plain") if plain else _UNKNOWN


# Photographs


def _clean_photo(reader: IO[bytes], writer: IO[bytes], kind: _Photo, size: int) -> Cleaned:
    if size > PHOTO_LIMIT_BYTES:
        raise CannotClean("The picture is too large to be cleaned.", slug="image-too-large")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        if kind is _HEIC:
            _copy_heic(reader, writer)
        else:
            _copy_photo(reader, writer, kind.format)
        writer.seek(0)
        _check_photo(writer, kind.format)
    return Cleaned(kind.mime, cleaned=True, suffix=kind.suffix)


def _copy_photo(reader: IO[bytes], writer: IO[bytes], name: str) -> None:
    with Image.open(reader, formats=[name]) as image:
        # Further frames of a JPEG are previews, depth and gain maps (CIPA DC-007).
        if name != "JPEG" and getattr(image, "is_animated", False):
            raise CannotClean("An animated picture cannot be cleaned; send it as a video.")
        options = _encoding(image, reader)
        picture = _bare(_in_srgb(_upright(image), image.info.get("icc_profile")))
    if name == "JPEG" and picture.mode not in {"L", "RGB"}:
        picture, options = picture.convert("RGB"), {"quality": 95}
    picture.save(writer, name, **options)


def _copy_heic(reader: IO[bytes], writer: IO[bytes]) -> None:
    heif = pillow_heif.open_heif(reader)
    if len(heif) != 1:
        raise CannotClean("A file of several pictures cannot be cleaned; send them one by one.")
    width, height = heif.size
    if width * height > PIXEL_LIMIT:
        raise Image.DecompressionBombError
    # libheif turns the picture as its container says; the orientation in its Exif is void.
    image = heif.to_pillow()
    picture = _bare(_in_srgb(image, image.info.get("icc_profile")))
    # The slower presets take a minute for a photo and save a tenth of its size.
    pillow_heif.from_pillow(picture).save(writer, quality=85, enc_params={"preset": "ultrafast"})


def _encoding(image: Image.Image, reader: IO[bytes]) -> dict[str, Any]:
    """Return the options that lose nothing, or no more than the original did."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        subsampling = JpegImagePlugin.get_sampling(image)
        return {"qtables": image.quantization, "subsampling": max(subsampling, 0)}
    if image.format == "WEBP":
        if _is_lossless_webp(reader):
            return {"lossless": True, "exact": True}
        return {"quality": 90}
    return {}


def _is_lossless_webp(reader: IO[bytes]) -> bool:
    """Look for a lossy "VP8 " chunk (RFC 9649 §2.5) and put the reader back."""
    place = reader.seek(0, os.SEEK_CUR)
    reader.seek(0)
    lossless = b"VP8 " not in reader.read()
    reader.seek(place)
    return lossless


def _upright(image: Image.Image) -> Image.Image:
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert to sRGB, since a colour profile can name a device and is left out."""
    if not profile or image.mode not in {"RGB", "RGBA", "CMYK"}:
        return image
    try:
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            outputMode="RGB" if image.mode == "CMYK" else image.mode,
        )
    except (ImageCms.PyCMSError, OSError):
        return image
    return converted or image


def _bare(image: Image.Image) -> Image.Image:
    """Return the pixels alone, with the palette and its transparent colour if there is one."""
    picture = image.copy()
    picture.info = {key: image.info[key] for key in ("transparency",) if key in image.info}
    return picture


def _check_photo(writer: IO[bytes], name: str) -> None:
    """Open the finished copy and refuse it if it tells anything that its format does not demand."""
    heic = name == "HEIF"
    image = (
        pillow_heif.open_heif(writer).to_pillow() if heic else Image.open(writer, formats=[name])
    )
    told = {key for key, value in image.info.items() if value} - _PHOTO_FIELDS[name]
    segments = {marker for marker, _ in getattr(image, "applist", [])} - {"APP0"}
    if told or segments or image.getexif():
        raise CannotClean("The copy of the picture still held metadata and was not used.")


# Sound and video


@contextmanager
def _demuxing(reader: IO[bytes], kind: _Media) -> Iterator[InputContainer]:
    # The format is given: guessing could choose a playlist, which opens other files.
    container = av.open(reader, "r", format=kind.demuxer, metadata_errors="replace")
    try:
        yield container
    finally:
        container.close()


def _kept(container: InputContainer) -> list[_Track]:
    """Return the tracks that are seen and heard: no cover art, subtitles, places, times, attachments."""
    tracks = [
        stream
        for stream in container.streams
        if isinstance(stream, VideoStream | AudioStream)
        and not stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails)
    ]
    # A second sound track in a format without a decoder (spatial audio) may go, the only one may not.
    known = [stream for stream in tracks if _codec(stream)]
    if not known or {stream.type for stream in known} != {stream.type for stream in tracks}:
        raise CannotClean("The sound or video is in a format that cannot be cleaned.")
    return known


def _codec(stream: _Track) -> str:
    context: Any = stream.codec_context
    return context.codec.canonical_name if context is not None else ""


def _has_pictures(tracks: list[_Track]) -> bool:
    return any(stream.type == "video" for stream in tracks)


def _clean_media(reader: IO[bytes], writer: IO[bytes], kind: _Media, report: _Progress) -> Cleaned:
    with _demuxing(reader, kind) as container:
        tracks = _kept(container)
        _remux(container, tracks, writer, kind.muxer, report)
        pictures = _has_pictures(tracks)
        count = len(tracks)
    if kind.demuxer == "mov":
        _blank_user_data(writer)
    writer.seek(0)
    _check_media(writer, kind, count)
    if pictures:
        return Cleaned(kind.mime, cleaned=True, suffix=kind.suffix)
    return Cleaned(kind.audio_mime, cleaned=True, suffix=kind.audio_suffix)


def _remux(
    container: InputContainer,
    tracks: list[_Track],
    writer: IO[bytes],
    muxer: str,
    report: _Progress,
) -> None:
    """Write the packets of `tracks` as they are into a new container, in constant memory."""
    output = av.open(
        writer,
        "w",
        format=muxer,
        # Without this, muxers add their version, random ids and the time.
        container_options={"fflags": "+bitexact", **_MUXER_OPTIONS.get(muxer, {})},
    )
    try:
        copies = {stream.index: _Copy(stream, output) for stream in tracks}
        for packet in container.demux(tracks):
            copy = copies[packet.stream_index]
            for bare in copy.bare(packet):
                output.mux_one(bare)
            report.advance(packet.size)
        output.start_encoding()
    finally:
        output.close()


class _Copy:
    """One track on its way from a container to the next."""

    def __init__(self, stream: _Track, output: OutputContainer) -> None:
        codec = _codec(stream)
        self._from = stream
        # The template brings the parameters of the decoder, among them the rotation; no tags.
        self._to = output.add_stream_from_template(stream, opaque=True)
        self._edit = _EDITS.get(codec, bytes)
        context: Any = self._to.codec_context
        self._filter = None
        if codec in _FREE_UNITS:
            without = f"filter_units=remove_types={_FREE_UNITS[codec]}"
            self._filter = BitStreamFilterContext(without, stream, self._to)
            # The filter brings the parameter sets into the form of a packet, but leaves all units in.
            if context.extradata:
                head = BitStreamFilterContext(without, codec).filter(Packet(context.extradata))
                context.extradata = b"".join(bytes(packet) for packet in head)
        # The muxer of Ogg writes this header itself.
        if codec in _EMPTY_XIPH_COMMENT and output.format.name != "ogg":
            context.extradata = _with_empty_comment(context.extradata or b"", codec)

    def bare(self, packet: "Packet[Any]") -> "Iterator[Packet[Any]]":
        """Yield packets of encoded bytes and their time alone; what rides along in FFmpeg stays behind."""
        if self._filter is not None:
            filtered = self._filter.filter(packet if packet.size else None)
        else:
            filtered = [packet] if packet.size else []
        for item in filtered:
            bare: Packet[Any] = Packet(self._edit(bytes(item)))
            bare.time_base = self._from.time_base or item.time_base
            bare.pts, bare.dts, bare.duration = item.pts, item.dts, item.duration
            bare.is_keyframe = item.is_keyframe
            # How many samples to leave out at the ends; without it sound would grow longer.
            if item.has_sidedata("skip_samples"):
                bare.set_sidedata(item.get_sidedata("skip_samples"))
            bare.stream = self._to
            yield bare


def _with_empty_comment(extradata: bytes, codec: str) -> bytes:
    """Empty the second of the three headers of Vorbis or Theora, which names the encoder and more.

    The first two are laced: their sizes stand in front, each as a run of 255 and a rest (RFC 9559 §10.3.2).
    """
    if extradata[:1] != b"\x02":
        raise CannotClean("The headers of the sound or video are damaged.")
    at, sizes = 1, []
    for _ in range(2):
        size = 0
        while extradata[at] == 0xFF:
            size, at = size + 0xFF, at + 1
        sizes.append(size + extradata[at])
        at += 1
    first = extradata[at : at + sizes[0]]
    third = extradata[at + sum(sizes) :]
    comment = _EMPTY_XIPH_COMMENT[codec]
    full, rest = divmod(len(first), 0xFF)
    lacing = b"\xff" * full + bytes((rest, len(comment)))
    return b"\x02" + lacing + first + comment + third


def _without_segments(frame: bytes) -> bytes:
    """Drop comments and application segments but APP0 and APP14 from a JPEG frame (ITU-T T.81 §B)."""
    kept, at = [frame[:2]], 2
    while frame[at] == 0xFF and frame[at + 1] != 0xDA:
        marker, end = frame[at + 1], at + 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
        if marker != 0xFE and (marker & 0xF0 != 0xE0 or marker in {0xE0, 0xEE}):
            kept.append(frame[at:end])
        at = end
    return b"".join([*kept, frame[at:]])


def _whole_flac_frame(frame: bytes) -> bytes:
    """Refuse bytes that follow a FLAC frame, which has no length but a sum at its end (RFC 9639 §9.3)."""
    rest = 0
    for byte in frame:
        rest = (rest << 8 & 0xFFFF) ^ _CRC16[rest >> 8 ^ byte]
    if rest:
        raise CannotClean("The file holds something besides sound and cannot be cleaned.")
    return frame


def _crc16(byte: int) -> int:
    rest = byte << 8
    for _ in range(8):
        rest = rest << 1 ^ (0x8005 if rest & 0x8000 else 0)
    return rest & 0xFFFF


_CRC16: Final = tuple(map(_crc16, range(256)))


def _amr_frame(frame: bytes) -> bytes:
    """Refuse what is no AMR frame: these bits of its first byte are zero (RFC 4867 §5.3)."""
    if frame[0] & 0x83:
        raise CannotClean("The file holds something besides sound and cannot be cleaned.")
    return frame


# What a demuxer takes for encoded sound or pictures and might be something else.
_EDITS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "mjpeg": _without_segments,
    "flac": _whole_flac_frame,
    "amr_nb": _amr_frame,
    "amr_wb": _amr_frame,
}


def _blank_user_data(writer: IO[bytes]) -> None:
    """Blank the empty user data that the MP4 muxer writes all the same; "free" is void (ISO/IEC 14496-12)."""
    end = writer.seek(0, os.SEEK_END)
    for name, start, stop in _boxes(writer, 0, end):
        if name == b"moov":
            for inner, begin, finish in _boxes(writer, start, stop):
                if inner in {b"udta", b"meta", b"uuid"}:
                    writer.seek(begin - 4)
                    writer.write(b"free" + bytes(finish - begin))


def _boxes(file: IO[bytes], start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, beginning and end of the content of each box (ISO/IEC 14496-12 §4.2)."""
    while start < end:
        file.seek(start)
        head = file.read(16)
        size, content = int.from_bytes(head[:4], "big"), start + 8
        if size == 1:
            size, content = int.from_bytes(head[8:], "big"), start + 16
        if size < content - start:
            raise CannotClean("The copy of the sound or video is damaged and was not used.")
        yield head[4:8], content, start + size
        start += size


def _check_media(writer: IO[bytes], kind: _Media, tracks: int) -> None:
    """Open the finished copy and refuse it if it tells anything that its format does not demand."""
    with _demuxing(writer, kind) as container:
        fields = [container.metadata, *(stream.metadata for stream in container.streams)]
        told = any(
            key.lower() not in _MEDIA_FIELDS and value not in _MEDIA_VALUES
            for field in fields
            for key, value in field.items()
        )
        if told or container.chapters() or len(container.streams) != tracks:
            raise CannotClean(
                "The copy of the sound or video still held metadata and was not used."
            )
        _kept(container)
