# SPDX-License-Identifier: AGPL-3.0-or-later
"""The custody of a case as one page in Arabic and English, with what was verified and what was not."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from amana.client.custodycheck import NOT_PROVEN, is_doubtful
from amana.client.verify import Check
from amana.protocol.custody import Custody

WORDS: Final[Mapping[str, tuple[str, str]]] = {
    # What
    "testimony-received": ("The testimony arrived", "وصلت الشهادة"),
    "testimony-destroyed": ("The testimony was destroyed", "أُتلفت الشهادة"),
    "testimony-expired": ("The time for which it was kept was over", "انتهت مدة حفظ الشهادة"),
    "verification-failed": ("A stored part was found damaged", "وُجد جزء محفوظ تالفًا"),
    "verification-mended": ("That part was whole again", "عاد ذلك الجزء سليمًا"),
    "prolong": ("A lead keeps it longer", "مدّد المسؤول مدة الحفظ"),
    "witness-consent": ("The witness changed the consent", "غيّر الشاهد موافقته"),
    "witness-withdraw": ("The witness withdrew it", "سحب الشاهد الشهادة"),
    "witness-take-back": ("The witness took the withdrawal back", "رجع الشاهد عن السحب"),
    "claim": ("Claimed", "استُلمت للعمل"),
    "release": ("Given back", "أُعيدت"),
    "recuse": ("Somebody recused themselves", "تنحّى أحدهم"),
    "hand-over": ("Handed over to a colleague", "سُلّمت إلى زميل"),
    "open": ("Opened", "فُتحت"),
    "re-wrap": ("One's own grant was fetched, to seal it anew", "طُلب المفتاح لإعادة ختمه"),
    "grant": ("A grant was sealed to a newer key", "خُتم المفتاح لمفتاح أحدث"),
    "note": ("A sealed note was added", "أُضيفت ملاحظة مختومة"),
    "decide": ("Decided", "اتُّخذ القرار"),
    "ask": ("The witness was asked", "سُئل الشاهد"),
    "resume": ("Taken up again", "استُؤنف العمل"),
    "reopen": ("The decision was taken back", "رُجع عن القرار"),
    "release-request": ("Identity or originals were asked for", "طُلبت الهوية أو الأصول"),
    "release-share": ("A custodian took or gave their share", "أخذ أحد الأمناء حصته أو أعطاها"),
    "release-decline": ("A custodian declined", "رفض أحد الأمناء"),
    "release-open": ("What was released was taken", "أُخذ ما أُفرج عنه"),
    "release-ended": ("The release ended", "انتهى الإفراج"),
    "re-share": ("A custodian shared anew", "أعاد أحد الأمناء تقسيم الحصص"),
    "vault-shared-anew": ("The vault is held by other custodians", "صارت الخزنة لدى أمناء آخرين"),
    "export-request": ("An export was asked for", "طُلب التصدير"),
    "export-approve": ("A second person decided about an export", "بتّ شخص ثانٍ في التصدير"),
    "export-complete": ("A sealed bundle was made", "أُعدّت حزمة مختومة"),
    "export-receipt": ("The partner signed for it", "وقّعت الجهة على الاستلام"),
    # Who, and under which authority
    "witness": ("the witness's key", "مفتاح الشاهد"),
    "service": ("the service", "الخدمة"),
    "receipt": ("the service's receipt", "إيصال الخدمة"),
    "control-key": ("the witness's own key", "مفتاح الشاهد نفسه"),
    "directory": ("directory, version", "الدليل، النسخة"),
    "administrator": ("administrator", "مدير"),
    "auditor": ("auditor", "مدقق"),
    "custodian": ("custodian", "أمين"),
    "lead": ("desk lead", "مسؤول المكتب"),
    "partner": ("partner", "جهة شريكة"),
    "reviewer": ("reviewer", "مراجع"),
    # Signature and proof
    "verified": ("signature verifies", "التوقيع صحيح"),
    "none": ("signed by nobody of staff", "لا يوقّعه العاملون"),
    "nobody-listed": ("signed by nobody in the directory", "وقّعه من ليس في الدليل"),
    "bad-signature": ("the signature does not hold", "التوقيع غير صحيح"),
    "logged": ("stands in the public log, place {place}", "في السجل العلني، الموضع {place}"),
    "waiting": (
        "not in the log yet, or not yet seen by the cosigners",
        "ليس في السجل بعد أو لم يره الشهود على السجل بعد",
    ),
}
CHECKS: Final[Mapping[str, tuple[str, str]]] = {
    "root": ("The officers of the service vouch for what follows", "مسؤولو الخدمة يكفلون ما يلي"),
    "form": ("The document is in its form", "الوثيقة على صيغتها"),
    "parts": ("Nothing was altered since it was fetched", "لم يُغيَّر شيء منذ استخراجها"),
    "directory": ("The officers listed everybody who signed", "أدرج المسؤولون كل من وقّع"),
    "maker": ("A reader or auditor fetched and signed it", "استخرجها ووقّعها مراجع أو مدقق"),
    "custody": ("Each act of staff is signed by its person", "كل فعل للعاملين موقّع من صاحبه"),
    "shown": ("What is shown is what the events say", "المعروض هو ما تقوله الأحداث"),
    "log": ("All of it stands in the public log, unchanged", "كله قائم في السجل العلني بلا تغيير"),
    "order": (
        "In the order of the log, and no event lacks its ground",
        "بترتيب السجل، ولا حدث ينقصه ما يسبقه",
    ),
}
UNPROVEN: Final[Mapping[str, str]] = {
    "events-shown": "أن الخدمة أظهرت كل حدث: يمكنها أن تُخفي حدثًا لا أن تغيّره",
    "what-was-said": "ما صرّح به الشاهد أو ما كتبه العاملون في فعل ما: الأحداث تحمل بصمته فقط",
    "before-the-log": "متى حدث شيء بأدق من ساعة من وقّع ومن موضعه في السجل",
    "content": "ما تقوله الشهادة أو أنها صحيحة: لا شيء هنا يفتحها",
    "standing": "أن أحد العاملين لم يكن موقوفًا حين وقّع؛ الدليل يذكر من كان يستطيع",
}
_FOUND: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(english), arabic)
    for english, arabic in (
        (r"signed by its officers, for (\S+)", "موقّع من مسؤوليه، للمنشأة {0}"),
        (r"a custody of version 1, of the case (\S+)", "سلسلة حفظ من النسخة 1، للقضية {0}"),
        (r"(\d+) parts, none altered.*", "الأجزاء {0}، لم يُغيَّر منها شيء ولا نقص ولا زاد"),
        (r"versions ([\d, ]+), signed by the officers", "النسخ {0}، موقّعة من المسؤولين"),
        (r"fetched and signed by (\S+) on (\S+)", "استخرجها ووقّعها {0} في {1}"),
        (
            r"(\d+) events, (\d+) of them acts of staff .*",
            "الأحداث {0}، منها {1} من أفعال العاملين بتوقيع صحيح وفق دليل وقته",
        ),
        (r"what, who, when .* what the events say", "الحدث وصاحبه ووقته وصفته كما تقوله الأحداث"),
        (
            r"every event stands in the public log of (\d+) events, signed by it and by no cosigner.*",
            "كل حدث قائم في السجل العلني وأحداثه {0}، بتوقيع السجل وحده، فالجذر لا يطلب شهودًا عليه",
        ),
        (
            r"every event stands in the public log of (\d+) events, signed by it and by (\d+) cosigners",
            "كل حدث قائم في السجل العلني وأحداثه {0}، بتوقيع السجل و{1} من الشهود عليه",
        ),
        (r"in the order of the log, the arrival first", "بترتيب السجل، والوصول أولها"),
        (r"nothing is there whose ground is missing", "ولا حدث ينقصه ما يسبقه"),
        # What was not checked
        (r"Not checked, because the document .*", "لم يُفحص، لأن الوثيقة ليست على صيغتها"),
        (r"Not checked, because the root file .*", "لم يُفحص، لأن ملف الجذر غير صحيح"),
        (r"Not checked, because the directory .*", "لم يُفحص، لأن الدليل غير صحيح"),
        (r"Not checked, because not every event .*", "لم يُفحص، لأن السجل لا يثبت كل حدث"),
        # What does not hold
        (r"events/(\d+) was altered, or its hash", "الحدث {0} غُيّر أو غُيّرت بصمته"),
        (r"files/(\S+) was altered, or its hash", "الملف {0} غُيّر أو غُيّرت بصمته"),
        (r"maker: .*", "من استخرجها ليس مراجعًا ولا مدققًا"),
        (r"v, deployment, .* was altered\.", "غُيّر رأس الوثيقة أو توقيعها"),
        (r"deployment: .*", "هي لمنشأة أخرى"),
        (r"Version (\d+) of the directory is missing\.", "النسخة {0} من الدليل غير موجودة"),
        (r"It is larger than (\d+) bytes\.", "حجمها يزيد على {0} بايت"),
        (r"it is about another case|the act is about another case", "هو من قضية أخرى"),
        (r"the act stands there twice", "الفعل مذكور مرتين"),
        (r"the signature does not hold .*", "التوقيع غير صحيح"),
        (r".*: not what the event says", "المعروض ليس ما يقوله الحدث"),
        (r"no proof that the log holds it .*", "لا برهان على أنه في السجل"),
        (r"fetch the custody again", "استخرج سلسلة الحفظ من جديد"),
        (r"proven by another log than the roots pin", "برهانه من سجل لا يسميه الجذر"),
        (r"not in the order of the log", "ليس بترتيب السجل"),
        (r"the arrival is not the first event.*", "الوصول ليس الحدث الأول، أو ليس وحيدًا"),
        (r"(\S+) without (\S+) before it.*", "«{0}» من غير «{1}» قبله: حدث ناقص"),
        (r"it is not in its form", "ليس على صيغته"),
    )
)
"""What a check found, as `custodycheck` says it, in Arabic."""
_OTHERWISE: Final = "غير صحيح، والسبب في القسم الإنكليزي"

_STYLE: Final = (
    "body{font-family:sans-serif;margin:2em;max-width:70em}"
    "table{border-collapse:collapse;width:100%;margin-bottom:1em}"
    "td,th{border:1px solid #999;padding:.3em .5em;text-align:start;vertical-align:top}"
    "code{font-size:80%;word-break:break-all}.bad{font-weight:bold;border:3px solid #900}"
    "section{margin-bottom:4em}"
)

_TEXTS: Final[tuple[Mapping[str, Any], ...]] = (
    {
        "language": "ar",
        "direction": "rtl",
        "title": "سلسلة حفظ القضية",
        "by": "استخرجها {maker} في {made_on}",
        "columns": ("", "الحدث", "من", "متى (UTC)", "الصفة", "التوقيع", "البرهان"),
        "below": "الأيام لأفعال الشاهد والثواني لأفعال العاملين.",
        "checked": "ما جرى التحقق منه على جهاز من أعدّ هذه الصفحة",
        "answers": {True: "ثبت", False: "لم يثبت", None: "لم يُفحص"},
        "unproven": "ما لا يمكن أن تثبته أي سلسلة حفظ",
        "again": "لا تثبت هذه الصفحة شيئًا بنفسها. يتحقق من الملف المرافق (JSON) كل من لديه ملف الجذر من المسؤولين:",
    },
    {
        "language": "en",
        "direction": "ltr",
        "title": "Custody of the case",
        "by": "fetched by {maker} on {made_on}",
        "columns": (
            "",
            "What",
            "Who",
            "When (UTC)",
            "Under which authority",
            "Signature",
            "Proof",
        ),
        "below": "Acts of the witness have days, acts of staff seconds.",
        "checked": "What was verified on the device that made this page",
        "answers": {True: "proven", False: "NOT", None: "not checked"},
        "unproven": "No custody can prove",
        "again": "This page proves nothing by itself. The JSON file that belongs to it is checked by whoever has the"
        " officers' root file:",
    },
)
_COMMAND: Final = "amana verify custody FILE --root ROOT.json"


def custody_page(found: Custody, checks: Sequence[Check]) -> str:
    """Return the chronology as one page in Arabic and English: no script, no link, nothing that is fetched."""
    sections = "".join(_section(number, found, checks) for number in range(len(_TEXTS)))
    return (
        '<!DOCTYPE html>\n<html lang="ar"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="referrer" content="no-referrer"><meta name="viewport" content="width=device-width">'
        f"<title>{_escaped(found.case)}</title><style>{_STYLE}</style></head><body>{sections}</body></html>\n"
    )


def _section(number: int, found: Custody, checks: Sequence[Check]) -> str:
    text = _TEXTS[number]
    # Arabic stands second in each pair of words.
    which = 1 - number
    head = "".join(f"<th>{_escaped(one)}</th>" for one in text["columns"])
    rows = "".join(_row(n, one, which) for n, one in enumerate(found.events, start=1))
    by = text["by"].format(maker=found.maker, made_on=found.made_on)
    verified = "".join(_checked(one, text["answers"], which) for one in checks)
    unproven = "".join(
        f"<li>{_escaped(UNPROVEN[name] if which else words)}</li>" for name, words in NOT_PROVEN
    )
    return (
        f'<section lang="{text["language"]}" dir="{text["direction"]}"><h1>{_escaped(text["title"])}</h1>'
        f"<p><bdi><code>{_escaped(found.case)}</code></bdi>, <bdi>{_escaped(by)}</bdi></p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><p>{_escaped(text['below'])}</p>"
        f"<h2>{_escaped(text['checked'])}</h2><table><tbody>{verified}</tbody></table>"
        f"<h2>{_escaped(text['unproven'])}</h2><ul>{unproven}</ul>"
        f'<p>{_escaped(text["again"])} <bdi dir="ltr"><code>{_escaped(_COMMAND)}</code></bdi></p></section>'
    )


def _row(number: int, one: Mapping[str, Any], which: int) -> str:
    is_good = one["proof"] == "logged" and not is_doubtful(one)
    words = [
        str(number),
        _word(one["what"], which),
        _word(one["who"], which),
        one["when"],
        _authority(one["authority"], which),
        _word(one["signature"], which),
    ]
    proof = _word(one["proof"], which)
    if one["proof"] == "logged":
        proof = proof.format(place=one["place"])
    cells = "".join(f"<td><bdi>{_escaped(each)}</bdi></td>" for each in words)
    cells += f"<td><bdi>{_escaped(proof)}</bdi><br><code>{_escaped(one['leaf'])}</code></td>"
    return f"<tr{'' if is_good else ' class=bad'}>{cells}</tr>"


def _checked(check: Check, answers: Mapping[bool | None, str], which: int) -> str:
    title = CHECKS[check.name][which] if check.name in CHECKS else check.name
    detail = f"<bdi>{_escaped(_in_arabic(check.detail) if which else check.detail)}</bdi>"
    cells = f"<td>{_escaped(answers[check.ok])}</td><td>{_escaped(title)}</td><td>{detail}</td>"
    return f"<tr{' class=bad' if check.ok is False else ''}>{cells}</tr>"


def _in_arabic(detail: str) -> str:
    """Return what a check found in Arabic; for what has no words here, where to read it."""
    more = re.search(r" and (\d+) more$", detail)
    said = []
    for one in detail[: more.start() if more else None].split("; "):
        event = re.match(r"events/(\d+): ", one)
        words = _phrase(one[event.end() :] if event else one)
        said.append(f"الحدث {event[1]}: {words}" if event else words)
    if more:
        said.append(f"وغيرها: {more[1]}")
    return "؛ ".join(said)


def _phrase(english: str) -> str:
    for pattern, arabic in _FOUND:
        if match := pattern.fullmatch(english):
            return arabic.format(*(_word(one, 1) for one in match.groups()))
    return _OTHERWISE


def _authority(authority: str, which: int) -> str:
    """Return roles and version in words."""
    roles, _, version = authority.rpartition("directory ")
    if not version.isdigit():
        return _word(authority, which)
    named = [_word(one, which) for one in roles.rstrip("; ").split(", ") if one]
    return "; ".join([*named, f"{_word('directory', which)} {version}"])


def _word(key: str, which: int) -> str:
    return WORDS[key][which] if key in WORDS else key


def _escaped(text: str) -> str:
    return html.escape(text, quote=True)
