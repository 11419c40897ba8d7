# SPDX-License-Identifier: AGPL-3.0-or-later
"""The page for the clerk in every bundle: how to check it with openssl and coreutils alone, in English and Arabic.

Lines that begin with four spaces are the commands, and no other lines do; tests run them as they stand there.
"""

from importlib import resources
from typing import Final

COMMANDS: Final = (resources.files("amana.client") / "check-bundle.sh").read_text("utf-8")
"""A script for a POSIX shell, for whoever checks a bundle without our program; described in docs/checking-bundles.md."""

_INDENT: Final = " " * 4

_EN: Final = """A TESTIMONY WITH ITS PROOF

Case      {case}
Export    {export}
For       {to}
Purpose   {purpose}
Made on   {made_on} by {maker}
Received  {received_on}

What is here
  data/files      what the witness sent, object 0 is the account (JSON, UTF-8)
  data/derived    translations and redactions; bundle.json names source and maker of each
  data/sealed     the same objects as they were sealed on the witness's device; redacted ones stay closed
  data/openings   for each object the key of this one file, which shows that the sealed file holds this content
  data/receipt.json   the service's signed receipt of the day of arrival, with the hash of every sealed file
  data/policies, data/statements   what the witness allowed, each version signed by the witness's key
  data/custody    every event of the case that the service showed, its key, and its proof in the public log
  data/stamps     time stamps (RFC 3161): checkpoints of the log, an authority's answers, its certificates, proofs
  data/export     who asked for this export and who approved it, signed
  data/releases   if it is there: the custodians released who the witness is, or untouched originals, for this; signed.
  The identity is the object in data/files whose JSON ends in "zeros"; these and "salt" only hide its length.
  data/directory  the officers' signed list of people and keys, in the versions of the time
  bundle.json     signed by whoever put this together

The short way: install the program "amana" and run
  amana verify bundle FOLDER --root ROOT.json --authority AUTHORITY.pem

The long way needs none of our programs, only a POSIX shell, GNU coreutils, find, xargs, grep, sed, cmp and OpenSSL 3.
A first look is whether the files fit the lists that lie beside them, which says nothing of who made the lists:
  sha256sum -c --quiet tagmanifest-sha256.txt manifest-sha256.txt && echo whole

Whoever made this bundle made this page too, and may have written whatever they like. So have the commands from somewhere
else: they are the file check-bundle.sh of the program amana, which its documentation describes (docs/checking-bundles.md);
or ask somebody whom you trust. Two more files you get from others, and never from whoever brought you this bundle:
  root.json       the root file, from the officers of the service
  authority.pem   the root certificate of the authority of time stamps, from that authority
Put the three beside this folder, go into this folder, and say
  sh ../check-bundle.sh
The commands stand below as well, after four spaces in each line. This writes them into a file, to be compared with what you
had from elsewhere; alone they are worth as much as the word of whoever made the bundle:
  sed -n 's/^    //p' README.en.txt > ../from-readme.sh; cmp ../from-readme.sh ../check-bundle.sh

Each line of what it says begins with one of these words:
  ok            this holds
  BAD           this is not as it should be
  NOT CHECKED   something was lacking for it, mostly root.json or authority.pem; alone this says nothing against the bundle
  note          to be known; neither proven nor wrong
The last line is the verdict, GOOD, BAD or NOT ALL WAS CHECKED, with counts. Without a verdict nothing was shown.

What it looks at, in this order
  FILES     Every file is a plain file that the lists name with its hash, and the lists name nothing else.
  RECEIPT   The receipt was signed by the key that root.json names. It says what arrived; all else is measured by it.
  SEALED    Each object of the receipt is here as it arrived. If one is missing, or one is too many, it is named.
  CONTENT   Each open file is what was sealed, to the last byte. "Closed" is what this bundle does not show, and what was
  "sealed for the custodians" is not in it: who the witness is, or untouched originals.
  EVENT     Each event is about this case and stands in the service's public log, which signed its state, and the arrival is
  one of them. (Whoever watches the log from outside would have seen it being rewritten.)
  TIME      An authority outside saw the state of the log at this time; judged at that time, so it holds although the
  authority's certificates have expired since. Every event that is STAMPED by a folder existed at the latest at its TIME.

{commands}

How to open the sealed bundle itself, in an empty folder: with `amana partner receive`, or with age 1.3 or newer (it must
know keys that begin with AGE-SECRET-KEY-PQ-1; `amana partner age-identity` prints yours):
  age -d -i KEY FILE | tail -c +9 | tar -xf -
(a few bytes of zeros follow the archive).

What this does not prove
  - that what the account says is true, or who the person is that wrote it
  - that the service showed every event: it can keep one back, but not change one
  - that every event after the approval is here: whoever put this together chooses which go in, but cannot change one
  - that somebody of staff was not suspended when they signed; the directory lists who could
  - that a translation says the same as its source: its maker answers for that
  - who put the bundle together, for whom and for what, and that the witness allowed it: signatures of staff, of the
  witness's key and of cosigners, who saw the log from outside, are checked by the program only (bundle.json, data/policies,
  data/export, data/custody)

Keep this folder closed to all who need not read it. Whoever reads it can harm the person who spoke.
"""

_AR: Final = """شهادة مع برهانها

القضية        {case}
التصدير       {export}
الجهة         {to}
الغرض         {purpose}
أُعدّت في      {made_on} من قِبل {maker}
وصلت في       {received_on}

ما في هذا المجلد
  data/files      ما أرسله الشاهد؛ الرقم 0 هو الإفادة (JSON بترميز UTF-8)
  data/derived    الترجمات والنسخ المحجوبة؛ ويذكر bundle.json مصدر كل منها ومن أعدّها
  data/sealed     المواد نفسها كما خُتمت على جهاز الشاهد؛ وما حُجب منها يبقى مغلقاً
  data/openings   لكل مادة مفتاح هذا الملف وحده، وهو يبيّن أن الملف المختوم يحوي هذا المضمون
  data/receipt.json   إيصال الخدمة الموقّع بيوم الوصول، وفيه بصمة كل ملف مختوم
  data/policies, data/statements   ما سمح به الشاهد، وكل نسخة موقّعة بمفتاحه
  data/custody    كل حدث في القضية أظهرته الخدمة، مع مفتاحه وبرهانه في السجل العلني
  data/stamps     أختام زمنية (RFC 3161): حالات السجل، وأجوبة جهة التوقيت، وشهاداتها، والبراهين
  data/export     من طلب هذا التصدير ومن وافق عليه، بتوقيعيهما
  data/releases   إن وُجد: أفرج الأمناء عن هوية الشاهد أو عن الأصول لهذا الغرض، بتواقيعهم.
  والهوية هي المادة في data/files التي ينتهي نصها بحقل "zeros"؛ وهو و"salt" لإخفاء طولها فقط.
  data/directory  قائمة الأشخاص والمفاتيح التي وقّعها المسؤولون، بنسخ ذلك الوقت
  bundle.json     موقّع ممن جمع هذه الحزمة

الطريقة القصيرة: ثبّت البرنامج "amana" ثم نفّذ
  amana verify bundle FOLDER --root ROOT.json --authority AUTHORITY.pem

الطريقة الطويلة لا تحتاج إلى أي برنامج من برامجنا، بل إلى سطر أوامر POSIX وGNU coreutils وfind وxargs وgrep وsed وcmp
وOpenSSL 3 فقط. والنظرة الأولى: هل تطابق الملفات القوائم الموجودة معها؟ ولا يقول ذلك من أعدّ القوائم:
  sha256sum -c --quiet tagmanifest-sha256.txt manifest-sha256.txt && echo whole

من أعدّ هذه الحزمة أعدّ هذه الصفحة أيضاً، وربما كتب فيها ما يشاء. فاحصل على الأوامر من مصدر آخر: هي الملف check-bundle.sh من
البرنامج amana، وتشرحه وثائقه (docs/checking-bundles.md)، أو اطلبها ممن تثق به. وخذ ملفين آخرين من غير من سلّمك هذه الحزمة:
  root.json       ملف الجذر، من مسؤولي الخدمة
  authority.pem   شهادة الجذر لجهة التوقيت، من تلك الجهة نفسها
ضع الملفات الثلاثة بجانب هذا المجلد، وادخل هذا المجلد، ونفّذ
  sh ../check-bundle.sh
والأوامر مذكورة أدناه أيضاً، وقبل كل سطر منها أربع مسافات. السطر التالي يكتبها في ملف لتقارنها بما أخذته من المصدر الآخر؛ أما
وحدها فلا تزيد قيمتها على كلام من أعدّ الحزمة:
  sed -n 's/^    //p' README.ar.txt > ../from-readme.sh; cmp ../from-readme.sh ../check-bundle.sh

كل سطر مما تقوله الأوامر يبدأ بإحدى هذه الكلمات:
  ok            هذا صحيح
  BAD           هذا ليس كما يجب
  NOT CHECKED   نقص شيء لفحصه، وغالباً root.json أو authority.pem؛ وليس في ذلك وحده ما يُؤخذ على الحزمة
  note          للعلم فقط؛ لا يثبت به شيء وليس خطأ
والسطر الأخير هو الحكم مع الأعداد: GOOD (سليمة) أو BAD (غير سليمة) أو NOT ALL WAS CHECKED (لم يُفحص كل شيء). وإن لم يظهر حكم
فلم يثبت شيء.

ما الذي تفحصه الأوامر، بهذا الترتيب
  FILES     كل ملف هو ملف عادي تذكره القوائم مع بصمته، ولا تذكر القوائم غير ما هو موجود.
  RECEIPT   الإيصال موقّع بالمفتاح الذي يسميه root.json. وهو يقول ما الذي وصل، وبه يُقاس كل ما بعده.
  SEALED    كل مادة في الإيصال موجودة هنا كما وصلت. وإن نقصت مادة أو زادت ذُكرت باسمها.
  CONTENT   كل ملف مفتوح هو ما خُتم، حتى آخر بايت. و"closed" ما لا تُظهره هذه الحزمة، و"sealed for the custodians" ما ليس
  فيها: هوية الشاهد أو الأصول التي لم تُمسّ.
  EVENT     كل حدث يخص هذه القضية وهو قائم في السجل العلني للخدمة الذي وقّع على حاله، والوصول واحد منها. (ومن يراقب السجل
  من الخارج كان سيرى أي تغيير فيه.)
  TIME      رأت جهة خارجية حالة السجل في هذا الوقت؛ ويُحكم عليه بذلك الوقت، فيبقى صحيحاً وإن انتهت شهادات الجهة بعده.
  وكل حدث يُكتب أمامه STAMPED ومجلد كان موجوداً على أبعد تقدير في وقت TIME لذلك المجلد.

{commands}

لفتح الحزمة المختومة نفسها في مجلد فارغ: `amana partner receive`، أو age بالإصدار 1.3 أو أحدث (يجب أن يعرف مفاتيح تبدأ بـ
AGE-SECRET-KEY-PQ-1، ويطبع `amana partner age-identity` مفتاحك):
  age -d -i KEY FILE | tail -c +9 | tar -xf -

ما لا يثبته هذا
  - أن ما في الإفادة صحيح، أو من هو الشخص الذي كتبها
  - أن الخدمة أظهرت كل حدث: يمكنها أن تُخفي حدثاً لا أن تغيّره
  - أن كل حدث بعد الموافقة موجود هنا: من جمع هذه الحزمة يختار ما يدخل فيها منها، ولا يستطيع أن يغيّر حدثاً
  - أن أحد العاملين لم يكن موقوفاً حين وقّع؛ الدليل يذكر من كان يستطيع
  - أن الترجمة مطابقة لمصدرها: من أعدّها مسؤول عنها
  - من جمع الحزمة، ولمن ولأي غرض، وأن الشاهد سمح بذلك: تواقيع العاملين ومفتاح الشاهد والشهود الخارجيين على السجل (cosigners)
  يتحقق منها البرنامج وحده
  (bundle.json و data/policies و data/export و data/custody)

أبقِ هذا المجلد مغلقاً عن كل من لا حاجة له بقراءته. فمن يقرؤه قد يؤذي الشخص الذي تكلّم.
"""


def readmes(**about: str) -> dict[str, bytes]:
    """Return the pages by name; `about` are case, export, to, purpose, made_on, maker, received_on."""
    commands = "\n".join(_INDENT + line for line in COMMANDS.splitlines())
    return {
        "README.ar.txt": _AR.format(**about, commands=commands).encode("utf-8"),
        "README.en.txt": _EN.format(**about, commands=commands).encode("utf-8"),
    }


def commands_of(readme: str) -> str:
    """Return the commands of a page, as `sed -n 's/^    //p'` writes them out."""
    found = [line for line in readme.split("\n") if line.startswith(_INDENT)]
    return "".join(f"{line.removeprefix(_INDENT)}\n" for line in found)
