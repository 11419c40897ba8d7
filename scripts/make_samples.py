# SPDX-License-Identifier: AGPL-3.0-or-later
"""Makes samples/: a testimony of nobody, marked SYNTHETIC, with metadata that cleaning must remove.

Uses no recording and no picture of anything, and draws nothing from a source of randomness.
"""

import math
import random
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import av
from PIL import Image, ImageDraw, ImageFont

SAMPLES: Final = Path(__file__).parent.parent / "samples"
MARK: Final = "SYNTHETIC SAMPLE"
# A point in the open sea and a round date: there to be seen before cleaning, and gone after it.
TAGS: Final = {
    "title": MARK,
    "artist": "SYNTHETIC",
    "comment": "Invented for tests. Shows nothing that happened.",
    "location": "+00.0000+000.0000/",
    "creation_time": "2000-01-01T00:00:00Z",
}
VIDEO_SIZE: Final = (640, 360)
VIDEO_SECONDS: Final = 12
FRAMES_PER_SECOND: Final = 25
SAMPLE_RATE: Final = 48000

TESTIMONY: Final = """\
[SYNTHETIC] هذه شهادة مخترعة للاختبار فقط. لا تصف حدثاً وقع، ولا شخصاً موجوداً، ولا مكاناً حقيقياً.

كنت في القبو مع جيراني وقت الفجر في بلدة نسميها هنا SY99. كان معنا نحو اثني عشر شخصاً، بينهم \
أربعة أطفال. كانت الكهرباء مقطوعة منذ يومين، وكنا نستعمل مصباحاً صغيراً يعمل على بطارية. سمعنا صوتاً \
خفيفاً ليس كالانفجارات المعتادة، ثم سكت كل شيء. لم أنظر إلى الساعة، لكن أذان الفجر كان قد انتهى قبل \
قليل، وأظن أن الوقت كان بين الرابعة والنصف والخامسة.

بعد دقائق شممنا رائحة تشبه رائحة مواد التنظيف، أقرب شيء إلى الكلور. لست متأكداً من الرائحة، فقد قال \
جاري إنها لم تكن قوية في الجهة الأخرى من القبو. بدأ السعال عند من كانوا قرب الدرج، ثم حرقة في العيون \
وضيق في الصدر. لم أر دخاناً بعيني، لكن ابن الجيران قال إنه رأى شيئاً مائلاً إلى الصفرة عند الباب.

صعدنا إلى السطح لأن أحدهم قال إن الهواء هناك أنظف. حملت طفلة صغيرة، وحمل جاري والدته. بللنا قطعاً من \
القماش بالماء ووضعناها على وجوهنا، وغسلنا عيون الأطفال. بعد ربع ساعة تقريباً وصلت سيارة إسعاف، وأخذت \
ثلاثة أشخاص إلى نقطة طبية. أعطوهم الأكسجين وبدلوا ملابسهم، وعادوا جميعاً قبل الظهر. لم يمت أحد ممن كانوا معنا.

في اليوم التالي رأيت قرب الطريق أسطوانة معدنية صدئة، ولم أقترب منها ولم ألمسها. صورتها من بعيد، \
والصورة مرفقة مع هذه الشهادة، ومعها تسجيل صوتي قصير ومقطع فيديو. لا أعرف من أطلقها ولا من أين جاءت، \
ولم أر طائرة في تلك الليلة، وإن كان غيري يقول إنه سمع صوت مروحية.

تحدثت عن هذا مرة واحدة من قبل مع طبيب في النقطة الطبية، ولم أوقع على أي ورقة. لا أريد ذكر اسمي ولا \
مكان عائلتي، ولا أريد أن يُنشر كلامي باسمي. أوافق على أن يقرأه من يوثق هذه الحوادث، وأرجو أن أُسأل قبل أي \
استعمال آخر.

[SYNTHETIC] انتهت الشهادة المخترعة.
"""


def main() -> None:
    SAMPLES.mkdir(exist_ok=True)
    (SAMPLES / "testimony.ar.txt").write_text(TESTIMONY, encoding="utf-8")
    make_photo(SAMPLES / "photo.jpg")
    make_voice(SAMPLES / "voice.ogg")
    make_video(SAMPLES / "video.mp4")


def make_photo(path: Path) -> None:
    tags = Image.Exif()
    tags[0x010F] = tags[0x0110] = tags[0x013B] = "SYNTHETIC"
    tags[0x0132] = "2000:01:01 00:00:00"
    tags[0x010E] = MARK
    zero = (0.0, 0.0, 0.0)
    tags.get_ifd(0x8825).update({1: "N", 2: zero, 3: "E", 4: zero})
    scene((1600, 1200), 0).save(path, "JPEG", quality=88, exif=tags, comment=MARK.encode())


def scene(size: tuple[int, int], step: int) -> Image.Image:
    """Draw hills under a sky, grained so that it compresses like a photograph, and the mark on it."""
    width, height = size
    image = Image.new("RGB", size)
    draw = ImageDraw.Draw(image)
    for row in range(height):
        shade = row / height
        draw.line(
            ((0, row), (width, row)),
            fill=(int(120 + 90 * shade), int(150 + 60 * shade), int(200 - 20 * shade)),
        )
    for layer in range(1, 4):
        ridge = [
            (x, height * (0.35 + 0.14 * layer) + height * 0.05 * _wave(x / width, layer, step))
            for x in range(0, width + 8, 8)
        ]
        colour = (150 - 35 * layer, 130 - 25 * layer, 100 - 20 * layer)
        draw.polygon([(0, height), *ridge, (width, height)], fill=colour)
    image = Image.blend(image, _grain(size, step), 0.08)
    draw = ImageDraw.Draw(image)
    for line, text in enumerate((MARK, "NOBODY  ·  NOWHERE  ·  SY99", f"{step:04d}")):
        draw.text(
            (width / 2, height * (0.25 + 0.22 * line)),
            text,
            font=ImageFont.load_default(height / (16 if line else 9)),
            fill="white",
            stroke_width=height // 120,
            stroke_fill="black",
            anchor="mm",
        )
    return image


def _wave(at: float, layer: int, step: int) -> float:
    return math.sin(at * 5 * layer + layer + step / 25) + math.sin(at * 13 + 2 * layer) / 2


def _grain(size: tuple[int, int], step: int) -> Image.Image:
    # Seeded, so that the same bytes come out each time.
    coarse = (size[0] // 2, size[1] // 2)
    bits = random.Random(step).randbytes(coarse[0] * coarse[1])  # noqa: S311
    return Image.frombytes("L", coarse, bits).resize(size).convert("RGB")


def voice(seconds: int) -> list[int]:
    """Return samples that rise and fall like speech and say nothing: a hum, shaped into syllables."""
    samples = []
    phase = 0.0
    for at in range(seconds * SAMPLE_RATE):
        time = at / SAMPLE_RATE
        phase += (120 + 25 * math.sin(time * 1.7) + 10 * math.sin(time * 7.1)) / SAMPLE_RATE
        turn = 2 * math.pi * phase
        vowel = 0.5 + 0.5 * math.sin(time * 2.3)
        hum = (
            math.sin(turn)
            + 0.7 * vowel * math.sin(5 * turn)
            + 0.5 * (1 - vowel) * math.sin(9 * turn)
            + 0.2 * math.sin(19 * turn)
        )
        syllable = max(0.0, math.sin(time * 11)) * (0.4 + 0.6 * max(0.0, math.sin(time * 0.9)))
        samples.append(int(8000 * syllable * hum / 2))
    return samples


def make_voice(path: Path) -> None:
    with _container(path, "ogg") as container:
        stream: Any = container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = 24000
        for tone in _sound(stream, voice(20)):
            container.mux(stream.encode(tone))
        container.mux(stream.encode(None))


def make_video(path: Path) -> None:
    with _container(path, "mp4") as container:
        # One thread, since the bytes depend on their number.
        options = {"crf": "24", "preset": "medium", "threads": "1"}
        video: Any = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=options)
        video.width, video.height = VIDEO_SIZE
        video.pix_fmt = "yuv420p"
        sound: Any = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        sound.bit_rate = 64000
        tones = _sound(sound, voice(VIDEO_SECONDS))
        for step in range(VIDEO_SECONDS * FRAMES_PER_SECOND):
            picture = scene(VIDEO_SIZE, step)
            frame = av.VideoFrame(*VIDEO_SIZE, "rgb24")
            frame.planes[0].update(picture.tobytes())
            frame.pts = step
            container.mux(video.encode(frame))
            for tone in islice(tones, 2):
                container.mux(sound.encode(tone))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))


def _container(path: Path, muxer: str) -> Any:
    container = av.open(str(path), "w", format=muxer, container_options={"fflags": "+bitexact"})
    container.metadata.update(TAGS)
    return container


def _sound(stream: Any, samples: list[int]) -> Iterator[Any]:
    resampler = av.AudioResampler(stream.format.name, "mono", SAMPLE_RATE, stream.frame_size or 960)
    for at in range(0, len(samples), 960):
        part = samples[at : at + 960]
        frame = av.AudioFrame("s16", "mono", len(part))
        frame.planes[0].update(struct.pack(f"<{len(part)}h", *part))
        frame.sample_rate, frame.pts = SAMPLE_RATE, at
        yield from resampler.resample(frame)
    yield from resampler.resample(None)


if __name__ == "__main__":
    main()
