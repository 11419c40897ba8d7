# SPDX-License-Identifier: AGPL-3.0-or-later
"""The custody of a case as its readers and auditors see it: who did what when, under which authority, and what proves it."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from amana.client.directory import custody_logs, fetch_version
from amana.client.errors import ClientError, NotVerified
from amana.client.exporting import case_events
from amana.client.log import prove_somewhere
from amana.client.reviewer import case_argument, verifying
from amana.client.staff import Staff
from amana.protocol.action import parse_action
from amana.protocol.directory import Directory, RootPins
from amana.protocol.encoding import check_sha256_hex, parse_canonical, parse_day
from amana.protocol.errors import ProtocolError
from amana.protocol.receipt import leaf

EVENT_LIMIT: Final = 256 * 1024


@dataclass(frozen=True)
class Entry:
    """One event of a case: `who` is an id or the part that has no id, `when` a day or a second, UTC."""

    what: str
    who: str
    when: str
    authority: str
    signature: str
    """`verified`, `none` where nobody signs, or what is wrong."""
    proof: str
    """`logged` with the place, `waiting`, or what is wrong."""
    place: int | None
    leaf: str


class CustodyReader(Staff):
    """Somebody who may see what happened with a case; opens nothing."""

    def custody(self, case: str) -> list[Entry]:
        """Return the events of a case in the order of the log, each checked. Raises Refused and NotVerified."""
        case_argument(case)
        verified = self._directory()
        directories: dict[int, Directory] = {verified.directory.version: verified.directory}
        found = case_events(self._desk, case)
        logs = custody_logs(self._get, self._root)
        entries = []
        with self._progress.step("Checking", len(found)) as advance:
            for content, key in found:
                commitment = leaf(content, key)
                with verifying("an event"):
                    event = parse_canonical(content, limit=EVENT_LIMIT)
                    if not isinstance(event, dict) or event.get("case") != case:
                        raise NotVerified("An event is of another case.", slug="custody-differs")
                    proof, place = self._proven(logs, commitment)
                    entries.append(self._entry(event, directories, commitment, proof, place))
                advance(1)
        return sorted(entries, key=lambda one: (one.place is None, one.place or 0, one.when))

    def _proven(self, logs: Sequence[RootPins], commitment: bytes) -> tuple[str, int | None]:
        try:
            proof = prove_somewhere(self._desk.transport, logs, commitment)
        except NotVerified as error:
            return error.slug, None
        return ("waiting", None) if proof is None else ("logged", proof.index)

    def _entry(
        self,
        event: Mapping[str, Any],
        directories: dict[int, Directory],
        commitment: bytes,
        proof: str,
        place: int | None,
    ) -> Entry:
        kind = str(event["kind"])
        facts: tuple[str, str, str, str, str]
        if kind == "action":
            facts = self._act(event["action"], directories)
        elif kind == "testimony-received":
            facts = (kind, "witness", _day(event["received_on"]), "receipt", "none")
        elif kind == "control-statement":
            check_sha256_hex(event["statement_sha256"])
            what = f"witness-{event['statement']}"
            facts = (what, "witness", _day(event["received_on"]), "control-key", "none")
        else:
            day = next((v for k, v in sorted(event.items()) if k.endswith("_on")), None)
            facts = (kind, "service", "" if day is None else _day(day), "service", "none")
        what, who, when, authority, signature = facts
        return Entry(
            what=_plain(what),
            who=who,
            when=when,
            authority=authority,
            signature=signature,
            proof=proof,
            place=place,
            leaf=commitment.hex(),
        )

    def _act(
        self, document: object, directories: dict[int, Directory]
    ) -> tuple[str, str, str, str, str]:
        action = parse_action(document)
        when = f"{action.made_at:%Y-%m-%d %H:%M:%S}"
        authority = f"directory {action.directory}"
        try:
            if action.directory not in directories:
                found = fetch_version(self._get, self._root, action.directory)
                directories[action.directory] = found.directory
            person = directories[action.directory].person(action.actor)
            if person is None:
                return action.action, action.actor, when, authority, "nobody-listed"
            authority = f"{', '.join(sorted(person.roles))}; {authority}"
            action.verify(person.signing_key)
        except (ProtocolError, ClientError) as error:
            return action.action, action.actor, when, authority, error.slug
        return action.action, action.actor, when, authority, "verified"


def _day(text: object) -> str:
    return parse_day(text).isoformat()


def _plain(text: str) -> str:
    """Return a word that a server may choose, if it is one; nothing of it may steer a terminal or a page."""
    if not (text.isascii() and text.replace("-", "").isalnum() and len(text) <= 48):
        raise KeyError
    return text


# The page

_WORDS: Final[Mapping[str, tuple[str, str]]] = {
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
    "release-request": ("The identity was asked for", "طُلبت الهوية"),
    "release-share": ("A custodian answered", "أجاب أحد الأمناء"),
    "export-request": ("An export was asked for", "طُلب التصدير"),
    "export-approve": ("A second person decided about an export", "بتّ شخص ثانٍ في التصدير"),
    "export-complete": ("A sealed bundle was made", "أُعدّت حزمة مختومة"),
    "export-receipt": ("The partner signed for it", "وقّعت الجهة على الاستلام"),
    "witness": ("the witness's key", "مفتاح الشاهد"),
    "service": ("the service", "الخدمة"),
    "verified": ("signature verifies", "التوقيع صحيح"),
    "none": ("signed by nobody of staff", "لا يوقّعه العاملون"),
    "logged": ("stands in the public log, place {place}", "في السجل العلني، الموضع {place}"),
    "waiting": ("not in the log yet", "ليس في السجل بعد"),
}

_STYLE: Final = (
    "body{font-family:sans-serif;margin:2em;max-width:70em}"
    "table{border-collapse:collapse;width:100%}"
    "td,th{border:1px solid #999;padding:.3em .5em;text-align:start;vertical-align:top}"
    "code{font-size:80%;word-break:break-all}.bad{font-weight:bold;border:3px solid #900}"
    "section{margin-bottom:4em}"
)

_TEXTS: Final = (
    (
        "ar",
        "rtl",
        "سلسلة حفظ القضية",
        ("الحدث", "من", "متى (UTC)", "الصفة", "التوقيع", "البرهان"),
        "الأيام لأفعال الشاهد والثواني لأفعال العاملين. يبيّن البرهان أن الحدث لم يُغيَّر منذ دخوله السجل، ولا يبيّن أن الخدمة"
        " أظهرت كل الأحداث.",
    ),
    (
        "en",
        "ltr",
        "Custody of the case",
        ("What", "Who", "When (UTC)", "Under which authority", "Signature", "Proof"),
        "Acts of the witness have days, acts of staff seconds. A proof shows that an event was not changed since it entered"
        " the log; it does not show that the service told of every event.",
    ),
)


def custody_page(case: str, entries: Sequence[Entry]) -> str:
    """Return the chronology as one page in Arabic and English: no script, no link, nothing that is fetched."""
    sections = "".join(_section(number, text, case, entries) for number, text in enumerate(_TEXTS))
    return (
        '<!DOCTYPE html>\n<html lang="ar"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="referrer" content="no-referrer"><meta name="viewport" content="width=device-width">'
        f"<title>{_escaped(case)}</title><style>{_STYLE}</style></head><body>{sections}</body></html>\n"
    )


def _section(number: int, text: Any, case: str, entries: Sequence[Entry]) -> str:
    language, direction, title, columns, below = text
    # Arabic stands second in each pair of words.
    which = 1 - number
    head = "".join(f"<th>{_escaped(one)}</th>" for one in columns)
    rows = "".join(_row(one, which) for one in entries)
    return (
        f'<section lang="{language}" dir="{direction}"><h1>{_escaped(title)}</h1>'
        f"<p><bdi><code>{_escaped(case)}</code></bdi></p><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table><p>{_escaped(below)}</p></section>"
    )


def _row(entry: Entry, which: int) -> str:
    is_good = entry.signature in {"verified", "none"} and entry.proof == "logged"
    words = [_word(entry.what, which), _word(entry.who, which), entry.when, entry.authority]
    proof = _word(entry.proof, which).format(place=entry.place)
    words += [_word(entry.signature, which), proof]
    cells = "".join(f"<td><bdi>{_escaped(one)}</bdi></td>" for one in words[:-1])
    cells += f"<td><bdi>{_escaped(words[-1])}</bdi><br><code>{_escaped(entry.leaf)}</code></td>"
    return f"<tr{'' if is_good else ' class=bad'}>{cells}</tr>"


def _word(key: str, which: int) -> str:
    return _WORDS[key][which] if key in _WORDS else key


def _escaped(text: str) -> str:
    return html.escape(text, quote=True)
