# SPDX-License-Identifier: AGPL-3.0-or-later
"""The page for the clerk in every bundle: how to check it with openssl and coreutils alone, in English and Arabic.

Lines that begin with four spaces are commands for a shell; tests run them as they stand here.
"""

from typing import Final

FILES: Final = "sha256sum --strict --quiet -c manifest-sha256.txt tagmanifest-sha256.txt && echo 'FILES: whole'"
SEALED: Final = """for f in data/sealed/*.age; do
  if grep -q "$(sha256sum "$f" | cut -c 1-64)" data/receipt.json; then echo "SEALED: $f arrived as it is"; else echo "SEALED: $f IS ANOTHER"; fi
done"""
TOOLS: Final = r"""hex() { od -An -v -tx1 | tr -d ' \n'; }
unhex() { tr a-f A-F | tr -d '\n' | basenc --base16 -d; }
hkdf() { openssl kdf -binary -keylen 32 -kdfopt digest:SHA256 -kdfopt hexkey:"$1" -kdfopt info:"$2" $3 HKDF | hex; }
field() { sed "s/.*\"$2\":\"*\([^\",}]*\).*/\1/" "$1"; }
T=$(mktemp -d)"""
CONTENT: Final = r"""for o in data/openings/*.json; do
  i=$(basename "$o" .json); f=data/sealed/$i.age; key=$(field "$o" file_key | base64 -d | hex)
  mac=$(head -c 1582 "$f" | openssl dgst -sha256 -mac HMAC -macopt hexkey:"$(hkdf "$key" header '')" -binary | base64 | tr -d =)
  if [ "$(head -c 1626 "$f" | tail -c 43)" != "$mac" ]; then echo "CONTENT: $i THE KEY DOES NOT FIT"; continue; fi
  payload=$(hkdf "$key" payload "-kdfopt hexsalt:$(head -c 1643 "$f" | tail -c 16 | hex)")
  size=$(($(wc -c < "$f") - 1643)); n=0
  while [ $((n * 65552)) -lt "$size" ]; do
    if [ $(((n + 1) * 65552)) -lt "$size" ]; then last=00; else last=01; fi
    tail -c +$((1644 + n * 65552)) "$f" | head -c 65552 | head -c -16 |
      openssl enc -d -chacha20 -K "$payload" -iv "$(printf '01000000%022x%s' $n $last)"
    n=$((n + 1))
  done | tail -c +9 | head -c "$(field "$o" len)" | sha256sum | cut -c 1-64 > "$T/found"
  file=$(echo data/files/$i.*)
  if [ "$(cat "$T/found")" = "$(sha256sum "$file" | cut -c 1-64)" ]; then echo "CONTENT: $file is what was sealed"; else echo "CONTENT: $file IS ANOTHER"; fi
done"""
LOG_KEY: Final = r"""tr -d ' \n' < "$ROOT" | sed 's/.*"custody_log":{"key":"\([^"]*\)".*/\1/' | base64 -d > "$T/key"
{ echo 302a300506032b6570032100 | unhex; cat "$T/key"; } | openssl pkey -pubin -inform DER -out "$T/log.pem" """.rstrip()
RECEIPT: Final = r"""{ printf 'amana-receipt-v1\0'; sed 's/"sig":"[^"]*",//' data/receipt.json; } > "$T/message"
field data/receipt.json sig | base64 -d > "$T/signature"
openssl pkeyutl -verify -pubin -inkey "$T/log.pem" -rawin -in "$T/message" -sigfile "$T/signature" > "$T/out" && echo 'RECEIPT: signed by the service'"""
EVENTS: Final = r"""stands() {
  h=$({ printf '\0'; openssl dgst -sha256 -mac HMAC -macopt hexkey:"$(cat "$2")" -binary "$1"; } | sha256sum | cut -c 1-64)
  i=$(sed -n 's/^index //p' "$3"); sed '1,/^$/d' "$3" > "$T/note"; n=$(($(sed -n 2p "$T/note") - 1))
  for beside in $(sed '/^$/,$d' "$3" | sed '/^c2sp/d;/^index/d;/^extra/d'); do
    b=$(echo "$beside" | base64 -d | hex)
    if [ $((i % 2)) = 1 ] || [ "$i" = "$n" ]; then
      h=$(echo "01$b$h" | unhex | sha256sum | cut -c 1-64)
      while [ $((i % 2)) = 0 ] && [ "$i" != 0 ]; do i=$((i / 2)); n=$((n / 2)); done
    else h=$(echo "01$h$b" | unhex | sha256sum | cut -c 1-64); fi
    i=$((i / 2)); n=$((n / 2))
  done
  head -n 3 "$T/note" > "$T/message"; good=no
  sed '1,/^$/d' "$T/note" | cut -d ' ' -f 3 > "$T/lines"
  while read -r line; do
    echo "$line" | base64 -d | tail -c +5 > "$T/signature"
    if openssl pkeyutl -verify -pubin -inkey "$T/log.pem" -rawin -in "$T/message" -sigfile "$T/signature" > "$T/out" 2>&1; then good=yes; fi
  done < "$T/lines"
  [ "$n" = 0 ] && [ "$h" = "$(sed -n 3p "$T/note" | base64 -d | hex)" ] && [ $good = yes ]
}
for e in data/custody/*.event.json; do
  p=${e%.event.json}
  if stands "$e" "$p.key" "$p.proof"; then echo "EVENT: $e stands in the log"; else echo "EVENT: $e DOES NOT"; fi
done"""
STAMPS: Final = r"""for d in data/stamps/*; do
  for r in "$d"/*.tsr; do
    if [ ! -e "$r" ]; then continue; fi
    at=$(openssl ts -reply -in "$r" -text 2> "$T/out" | sed -n 's/^Time stamp: //p')
    if openssl ts -verify -data "$d/checkpoint" -in "$r" -untrusted "${r%.tsr}.pem" -CAfile "$AUTHORITY" -attime "$(date -d "$at" +%s)" > "$T/out" 2>&1
    then echo "TIME: $r says $at"; else echo "TIME: $r DOES NOT HOLD under $AUTHORITY"; fi
  done
  for q in "$d"/*.proof; do
    if [ ! -e "$q" ]; then continue; fi
    e=data/custody/$(basename "$q" .proof)
    if stands "$e.event.json" "$e.key" "$q" && cmp -s "$T/note" "$d/checkpoint"; then echo "STAMPED: $e.event.json by $d"; else echo "STAMPED: $e.event.json IS NOT by $d"; fi
  done
done"""
END: Final = 'rm -r "$T"'

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
                  The identity is the object in data/files whose JSON ends in "zeros"; these and "salt" only hide its length
  data/directory  the officers' signed list of people and keys, in the versions of the time
  bundle.json     signed by whoever put this together

The short way: install the program "amana" and run
  amana verify bundle FOLDER --root ROOT.json --authority AUTHORITY.pem

The long way needs a shell, GNU coreutils and OpenSSL 3. Go into the folder of this file. ROOT is the root file that the
officers of the service gave out; get it from them, not from whoever brought you this bundle:

    ROOT=${{ROOT:-../root.json}}
{tools}

1. Every file is listed, and none was altered. (That none is too many: compare with `find . -type f`.)

{files}

2. The sealed files are those that arrived.

{sealed}

3. The content is what was sealed. The first comparison (the header's MAC) matters: it ties the file to one key.

{content}

4. The receipt was signed by the key that the officers' root names.

{log_key}
{receipt}

5. Every event stands in the service's public log, which signed its state. (Whoever watches the log from outside would have
   seen it being rewritten.)

{events}

6. Until when it existed. Somebody outside, an authority of time stamps, saw the state of the log at a time that it names. Every
   event that is "STAMPED by" a folder existed at the latest at the "TIME" of that folder. AUTHORITY is the authority's root
   certificate; get it from the authority, not from whoever brought you this bundle. Each stamp is judged at its own time, so
   it holds although the authority's certificates have expired since. Nothing is printed where the bundle holds no stamp.

    AUTHORITY=${{AUTHORITY:-../authority.pem}}
{stamps}
{end}

How to open the sealed bundle itself: with `amana partner receive`, or with age 1.3 or newer (it must know keys that begin
with AGE-SECRET-KEY-PQ-1):  age -d -i KEY FILE | tail -c +9 | tar -xf -   (a few bytes of zeros follow the archive).

What this does not prove
  - that what the account says is true, or who the person is that wrote it
  - that the service showed every event: it can keep one back, but not change one
  - that every event that was shown is here: whoever put this together chooses which go in, but cannot change one
  - that somebody of staff was not suspended when they signed; the directory lists who could
  - that a translation says the same as its source: its maker answers for that
  - signatures of staff, of the witness's key and of cosigners, who saw the log from outside, are checked by the program only
   (bundle.json, data/policies, data/export, data/custody)

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
  data/releases   إن وُجد: أفرج الأمناء عن هوية الشاهد أو عن الأصول لهذا الغرض، بتواقيعهم. والهوية هي المادة في data/files
                  التي ينتهي نصها بحقل "zeros"؛ وهو و"salt" لإخفاء طولها فقط
  data/directory  قائمة الأشخاص والمفاتيح التي وقّعها المسؤولون، بنسخ ذلك الوقت
  bundle.json     موقّع ممن جمع هذه الحزمة

الطريقة القصيرة: ثبّت البرنامج "amana" ثم نفّذ
  amana verify bundle FOLDER --root ROOT.json --authority AUTHORITY.pem

الطريقة الطويلة تحتاج إلى سطر أوامر وGNU coreutils وOpenSSL 3. ادخل مجلد هذا الملف. ROOT هو ملف الجذر الذي وزّعه مسؤولو
الخدمة؛ خذه منهم لا ممن سلّمك هذه الحزمة:

    ROOT=${{ROOT:-../root.json}}
{tools}

1. كل ملف مذكور في القائمة ولم يُغيَّر منها شيء. (ولمعرفة الزائد قارن مع `find . -type f`.)

{files}

2. الملفات المختومة هي التي وصلت.

{sealed}

3. المضمون هو ما خُتم. المقارنة الأولى (رمز الترويسة) ضرورية: فهي تربط الملف بمفتاح واحد.

{content}

4. الإيصال موقّع بالمفتاح الذي يسميه جذر المسؤولين.

{log_key}
{receipt}

5. كل حدث قائم في السجل العلني للخدمة، وقد وقّع السجل على حاله. (ومن يراقب السجل من الخارج كان سيرى أي تغيير فيه.)

{events}

6. متى كان موجوداً على أبعد تقدير. رأت جهة خارجية للتوقيت حالة السجل في وقت تذكره. فكل حدث يُكتب أمامه "STAMPED by" ومجلد كان
   موجوداً على أبعد تقدير في وقت "TIME" لذلك المجلد. AUTHORITY هو شهادة الجذر لتلك الجهة؛ خذها منها لا ممن سلّمك هذه الحزمة.
   ويُحكم على كل ختم بوقته هو، فيبقى صحيحاً وإن انتهت شهادات الجهة بعد ذلك. ولا يُطبع شيء إن لم يكن في الحزمة ختم.

    AUTHORITY=${{AUTHORITY:-../authority.pem}}
{stamps}
{end}

لفتح الحزمة المختومة نفسها: `amana partner receive`، أو age بالإصدار 1.3 أو أحدث (يجب أن يعرف مفاتيح تبدأ بـ
AGE-SECRET-KEY-PQ-1):  age -d -i KEY FILE | tail -c +9 | tar -xf -

ما لا يثبته هذا
  - أن ما في الإفادة صحيح، أو من هو الشخص الذي كتبها
  - أن الخدمة أظهرت كل حدث: يمكنها أن تُخفي حدثاً لا أن تغيّره
  - أن كل حدث أُظهر موجود هنا: من جمع هذه الحزمة يختار ما يدخل فيها من الأحداث، ولا يستطيع أن يغيّر حدثاً
  - أن أحد العاملين لم يكن موقوفاً حين وقّع؛ الدليل يذكر من كان يستطيع
  - أن الترجمة مطابقة لمصدرها: من أعدّها مسؤول عنها
  - تواقيع العاملين ومفتاح الشاهد والشهود الخارجيين على السجل (cosigners) يتحقق منها البرنامج وحده
  (bundle.json و data/policies و data/export و data/custody)

أبقِ هذا المجلد مغلقاً عن كل من لا حاجة له بقراءته. فمن يقرؤه قد يؤذي الشخص الذي تكلّم.
"""

_COMMANDS: Final = {
    "files": FILES,
    "sealed": SEALED,
    "tools": TOOLS,
    "content": CONTENT,
    "log_key": LOG_KEY,
    "receipt": RECEIPT,
    "events": EVENTS,
    "stamps": STAMPS,
    "end": END,
}


def readmes(**about: str) -> dict[str, bytes]:
    """Return the pages by name; `about` are case, export, to, purpose, made_on, maker, received_on."""
    commands = {
        name: "\n".join(f"    {line}" for line in text.split("\n"))
        for name, text in _COMMANDS.items()
    }
    return {
        "README.ar.txt": _AR.format(**about, **commands).encode("utf-8"),
        "README.en.txt": _EN.format(**about, **commands).encode("utf-8"),
    }


def commands_of(readme: str) -> str:
    """Return the shell commands of a page."""
    return "\n".join(line[4:] for line in readme.split("\n") if line.startswith("    "))
