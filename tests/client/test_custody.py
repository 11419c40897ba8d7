"""The custody of a case: every act with its signature and proof, and a page that runs nothing of anybody."""

import html
import html.parser
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from amana.client.custody import CustodyFound, CustodyReader, Entry
from amana.client.custodycheck import NOT_PROVEN, check_custody
from amana.client.custodypage import CHECKS, UNPROVEN, WORDS, custody_page
from amana.client.errors import NotVerified, Refused
from amana.client.keyfile import PersonKeys
from amana.client.transport import Patience, Transport
from amana.client.verify import Check
from amana.ops.sequencer import sequence
from amana.protocol.action import ACTIONS
from amana.protocol.custody import Custody, sign_custody
from amana.protocol.encoding import b64, canonical, parse_canonical, unb64
from amana.protocol.receipt import leaf
from tests.support.exports import SCOPES, Leaving
from tests.support.lying import Lying, in_json
from tests.support.organisation import organisation_in
from tests.support.statements import Witness

OF_PEOPLE = {
    "invite", "withdraw-invite", "vet", "suspend", "reinstate", "confirm", "replace-key", "rule"
}  # fmt: skip
"""Acts that are about no case."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Leaving, Lying, str]]:
    with organisation_in(tmp_path_factory.mktemp("custody")) as organisation:
        leaving = Leaving.accepted(organisation)
        witness = Witness(organisation, leaving.made)
        assert witness.consent({**SCOPES, "opcw": "allow"}).status_code == 200
        leaving.complete(leaving.approved())
        lying = Lying(organisation.app.wsgi_app)
        organisation.app.wsgi_app = lying  # type: ignore[method-assign]
        sequence(organisation.services)
        with organisation.served() as url:
            yield leaving, lying, url


def custody(place: tuple[Leaving, Lying, str], keys: PersonKeys) -> Sequence[Entry]:
    return fetched(place, keys).entries


def fetched(place: tuple[Leaving, Lying, str], keys: PersonKeys) -> CustodyFound:
    leaving, _, url = place
    # The client looks at a real clock.
    leaving.organisation.clock.follow()
    with Transport(url, silence_seconds=10) as transport:
        patience = Patience(attempts=2, first_seconds=0.01)
        reader = CustodyReader(transport, leaving.organisation.root, keys, patience=patience)
        return reader.custody(leaving.case)


def test_readers_and_auditors_see_who_did_what_and_that_it_is_proven(
    served: tuple[Leaving, Lying, str],
) -> None:
    leaving, _, _ = served
    [auditor] = leaving.organisation.of_role("auditor")
    for keys in (leaving.reader.keys, auditor):
        found = custody(served, keys)
        assert [one.what for one in found] == [
            "testimony-received", "claim", "open", "decide", "witness-consent", "export-request",
            "export-approve", "export-complete",
        ]  # fmt: skip
        assert {one.proof for one in found} == {"logged"}
        places = [one.place for one in found]
        assert places == sorted(set(places))  # type: ignore[type-var]
        assert [one.signature for one in found] == [
            "none", "verified", "verified", "verified", "none", "verified", "verified", "verified"
        ]  # fmt: skip
        approver = found[6]
        assert approver.who == leaving.administrator.keys.id
        assert approver.authority == "administrator; directory 1"


def test_nobody_else_sees_it(served: tuple[Leaving, Lying, str]) -> None:
    with pytest.raises(Refused):
        custody(served, served[0].administrator.keys)


@contextmanager
def lying_about(place: tuple[Leaving, Lying, str], change: Any) -> Iterator[None]:
    """Let the server show other events, with leaves that fit: it has keys for whatever it makes up."""
    leaving, lying, _ = place
    path, pages = f"/v1/cases/{leaving.case}/custody", iter((True, False))

    def changed(document: dict[str, Any]) -> None:
        shown = document["events"] if next(pages) else []
        for one in shown:
            content = canonical(change(parse_canonical(unb64(one["event"]), limit=65536)))
            one["event"] = b64(content)
            one["leaf"] = leaf(content, unb64(one["key"])).hex()
        document["events"] = sorted(shown, key=lambda one: one["leaf"])

    lying.lies[path] = in_json(changed)
    try:
        yield
    finally:
        lying.lies.clear()


def forged_actor(event: dict[str, Any]) -> dict[str, Any]:
    if event["kind"] == "action":
        event["action"]["actor"] = "b" * 32
    return event


def forged_time(event: dict[str, Any]) -> dict[str, Any]:
    if event["kind"] == "action":
        event["action"]["made_at"] = "2020-01-01T00:00:00Z"
    return event


@pytest.mark.parametrize(
    ("change", "signature"), [(forged_actor, "nobody-listed"), (forged_time, "bad-signature")]
)
def test_what_a_server_makes_up_is_shown_as_not_verified_and_not_logged(
    served: tuple[Leaving, Lying, str], change: Any, signature: str
) -> None:
    with lying_about(served, change):
        found = custody(served, served[0].reader.keys)
    acts = [one for one in found if one.authority.endswith("directory 1")]
    assert {one.signature for one in acts} == {signature}
    assert {one.proof for one in acts} == {"waiting"}


def test_of_what_waits_on_one_day_the_ground_stands_before_what_rests_on_it(
    served: tuple[Leaving, Lying, str],
) -> None:
    def found_or_mended(event: dict[str, Any]) -> dict[str, Any]:
        if event["kind"] != "action":
            return event
        is_mended = event["action"]["action"] in {"claim", "decide", "export-approve"}
        kind = "verification-mended" if is_mended else "verification-failed"
        return {"v": 1, "kind": kind, "case": event["case"], "found_on": "2026-01-01"}

    with lying_about(served, found_or_mended):
        found = custody(served, served[0].reader.keys)
    waiting = [one.what for one in found if one.proof == "waiting"]
    assert waiting == ["verification-failed"] * 3 + ["verification-mended"] * 3


def test_events_of_another_case_or_with_markup_are_refused(
    served: tuple[Leaving, Lying, str],
) -> None:
    for change in ({"case": "b" * 32}, {"kind": "<script>"}, {"kind": "\x1b[2J"}):
        with (
            lying_about(served, lambda event, more=change: {**event, **more}),
            pytest.raises(NotVerified),
        ):
            custody(served, served[0].reader.keys)


# The page


class Page(html.parser.HTMLParser):
    """Notes what a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_stands_alone_in_both_languages_and_says_what_was_verified(
    served: tuple[Leaving, Lying, str],
) -> None:
    leaving, _, _ = served
    found = fetched(served, leaving.reader.keys).document
    checks = check_custody(found, leaving.organisation.root)
    assert [one for one in checks if not one.ok] == []
    page = Page(custody_page(found, checks))
    assert not page.tags & {"script", "link", "img", "iframe", "object", "a", "form", "base"}
    assert not {"src", "href", "style", "onload", "onclick"} & page.attributes.keys()
    assert page.attributes["dir"] == {"rtl", "ltr"}
    assert page.attributes["lang"] == {"ar", "en"}
    assert "default-src 'none'; style-src 'unsafe-inline'" in page.attributes["content"]
    assert "bad" not in page.attributes.get("class", set())
    words = " ".join(page.words)
    assert "A sealed bundle was made" in words
    assert "أُعدّت حزمة مختومة" in words
    assert "administrator; directory, version 1" in words
    assert "مدير; الدليل، النسخة 1" in words
    assert words.count(leaving.administrator.keys.id) == 2
    assert words.count("Each act of staff is signed by its person") == 1
    assert words.count("كل فعل للعاملين موقّع من صاحبه") == 1
    assert "that the service showed every event" in words
    assert "أن الخدمة أظهرت كل حدث" in words
    assert words.count("amana verify custody FILE --root ROOT.json") == 2


def test_the_page_says_what_does_not_hold(served: tuple[Leaving, Lying, str]) -> None:
    leaving, _, _ = served
    with lying_about(served, forged_time):
        found = fetched(served, leaving.reader.keys).document
    checks = check_custody(found, leaving.organisation.root)
    assert {one.name for one in checks if one.ok is False} == {"custody", "log"}
    page = Page(custody_page(found, checks))
    assert page.attributes["class"] == {"bad"}
    words = " ".join(page.words)
    assert words.count("NOT") == 2
    assert words.count("لم يثبت") == 2
    assert words.count("not checked") == 1
    assert "لم يُفحص" in words
    assert "the signature does not hold" in words


def test_the_page_knows_a_word_for_whatever_can_happen() -> None:
    kinds = {one for one in ACTIONS if one not in OF_PEOPLE}
    assert kinds <= WORDS.keys()
    assert CHECKS.keys() == {one.name for one in check_custody(b"{}", b"{}")}
    assert UNPROVEN.keys() == dict(NOT_PROVEN).keys()
    arabic = re.compile("[؀-ۿ]")
    pairs = [*WORDS.values(), *CHECKS.values()]
    assert all(arabic.search(two) and not arabic.search(one) for one, two in pairs)


def test_what_was_found_stands_in_arabic_in_the_arabic_half(
    served: tuple[Leaving, Lying, str],
) -> None:
    leaving, _, _ = served
    root = leaving.organisation.root
    good = fetched(served, leaving.reader.keys).document
    with lying_about(served, forged_time):
        forged = fetched(served, leaving.reader.keys).document
    [administrator] = leaving.organisation.of_role("administrator")[:1]
    fields = {name: vars(good)[name] for name in ("deployment", "case", "directory", "made_on")}
    stranger = sign_custody(
        administrator.signing,
        **fields,
        maker=administrator.id,
        events=[*good.events[2:], {**good.events[1], "who": "a" * 32}],
        files=good.files,
    )
    for found, its_root in ((good, root), (forged, root), (stranger, root), (good, b"{}")):
        checks = check_custody(found, its_root)
        arabic, english = (
            re.findall(r"<td>([^<]*)</td><td><bdi>([^<]*)</bdi></td></tr>", half)
            for half in custody_page(found, checks).split('<section lang="en"')
        )
        assert [html.unescape(detail) for _, detail in english] == [one.detail for one in checks]
        assert len(arabic) == len(checks)
        for (_, detail), one in zip(arabic, checks, strict=True):
            assert re.search("[؀-ۿ]", detail), one
            assert not re.search(r"[A-Za-z]+ [A-Za-z]+", detail), one
            # A fault of the root file has a hundred forms; whatever else there is has its words.
            assert ("القسم الإنكليزي" in detail) == (one.name == "root" and not one.ok), one


def test_nothing_on_the_page_is_more_than_words() -> None:
    evil = '"><script>alert(1)</script>{place.__class__}'
    fields = ("what", "who", "when", "authority", "signature", "leaf")
    good = {
        "what": "open", "who": "a" * 32, "when": "", "authority": "reviewer; directory 1",
        "signature": "verified", "proof": "logged", "place": 1, "leaf": "0" * 64,
    }  # fmt: skip
    found = Custody(
        evil, evil, evil, 1, evil, [{**good, name: evil} for name in fields], {}, {}
    )  # fmt: skip
    text = custody_page(found, [Check(evil, False, evil), Check("log", True, evil)])
    assert "<script" not in text
    assert "class=bad" in text
