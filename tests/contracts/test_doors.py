"""Who may do what: every route × every role, made from the routes themselves, so that a new one without a row fails."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from amana.access.doors import staff_must_sign_in
from amana.access.roles import PERMISSIONS, Permission
from amana.api.doors import nobody_needs_to_sign_in
from amana.api.services import Services
from amana.app import Surface, create_app
from amana.client.keyfile import read_key
from amana.intake.retention import Periods
from amana.ops.demo import PASSPHRASE
from amana.protocol.encoding import random_id
from tests.support.decisions import decide
from tests.support.exports import SCOPES, Leaving
from tests.support.newcomers import list_by_hand, new_keys
from tests.support.officers import Officers
from tests.support.organisation import Clock, Organisation, Person, organisation_in
from tests.support.vaults import Vaulted, make_custodian

DOORS = {nobody_needs_to_sign_in, staff_must_sign_in}
WITHOUT_BLUEPRINT = {"/openapi.json", "/docs"}

OPEN_TO_ALL = {
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/log/<name>/checkpoint"),
    ("GET", "/log/<name>/cosigned"),
    ("GET", "/log/<name>/proof/<leaf>"),  # Whoever knows a leaf was given it.
    ("GET", "/log/<name>/stamp/<int:size>/<file>"),
    ("GET", "/log/<name>/stamps/<int:place>"),
    ("GET", "/log/<name>/tile/<path:path>"),
    ("GET", "/v1/admission"),
    ("POST", "/v1/control"),  # The control key's signature is the authority.
    ("POST", "/v1/directory"),  # The officers' signatures are the only authority.
    ("GET", "/v1/directory/<path:name>"),
    ("GET", "/v1/drop/<bits>/<shard>"),  # Everybody downloads all of it.
    ("POST", "/v1/enrolments"),  # The invitation is.
    ("POST", "/v1/sessions"),
    ("POST", "/v1/testimonies"),
    ("HEAD", "/v1/uploads/<capability>"),
    ("OPTIONS", "/v1/uploads/<capability>"),
    ("PATCH", "/v1/uploads/<capability>"),
    ("DELETE", "/v1/uploads/<capability>"),
    ("POST", "/v1/uploads/<capability>/completion"),
}


@dataclass(frozen=True)
class Row:
    """Whom a route lets in, and a body of the right form for it."""

    permission: Permission | None
    body: dict[str, Any] | None = None
    query: str = ""


ANYBODY = Row(None)
OTHER = "b" * 32
ABOUT = {"action": {}, "person": OTHER}
ASKED = {"to": OTHER, "purpose": "iiim", "identity_level": "anonymous", "releases": []}
CLOSED = {
    ("GET", "/v1/cases"): Row(Permission.LIST_CASES),
    ("GET", "/v1/case-counts"): Row(Permission.LIST_CASES),
    ("GET", "/v1/cases/<case>"): Row(Permission.LIST_CASES),
    ("POST", "/v1/cases/<case>/claims"): Row(Permission.WORK_ON_CASE, {"action": {}}),
    ("POST", "/v1/cases/<case>/claims/release"): Row(Permission.WORK_ON_CASE, {"action": {}}),
    ("POST", "/v1/cases/<case>/recusals"): Row(
        Permission.WORK_ON_CASE, {"action": {}, "reason": "other"}
    ),
    ("POST", "/v1/cases/<case>/hand-overs"): Row(
        Permission.WORK_ON_CASE,
        {"action": {}, "to": OTHER, "second": False, "intake_key": None, "grant": None},
    ),
    ("POST", "/v1/cases/<case>/notes"): Row(
        Permission.WORK_ON_CASE, {"action": {}, "audience": "desk", "sealed": "AA=="}
    ),
    ("GET", "/v1/cases/<case>/notes"): Row(Permission.OPEN_CASE),
    ("POST", "/v1/cases/<case>/decisions"): Row(
        Permission.WORK_ON_CASE, {"action": {}, "decision": "accept", "reason": "AA=="}
    ),
    ("POST", "/v1/cases/<case>/resumptions"): Row(Permission.WORK_ON_CASE, {"action": {}}),
    ("POST", "/v1/cases/<case>/reopenings"): Row(
        Permission.WORK_ON_CASE, {"action": {}, "reason": "AA=="}
    ),
    ("POST", "/v1/drop"): Row(
        Permission.ASK_WITNESS,
        {
            "action": {},
            "commitment": "a" * 64,
            "reason": "AA==",
            "salt": f"{'A' * 43}=",
            "bits": 0,
            "shard": 0,
            "slots": ["AA=="],
        },
    ),
    ("GET", "/v1/retention"): Row(Permission.SEE_RETENTION),
    ("GET", "/v1/cases/<case>/retention"): Row(Permission.LIST_CASES),
    ("POST", "/v1/cases/<case>/prolongations"): Row(
        Permission.PROLONG, {"action": {}, "until": "2026-12-01", "reason": "other"}
    ),
    ("GET", "/v1/routing-tasks"): Row(Permission.SEE_ROUTING_TASKS),
    ("GET", "/v1/rules"): Row(Permission.SEE_RULES),
    ("POST", "/v1/rules"): Row(
        Permission.SET_RULES,
        {
            "action": {},
            "replaces": 0,
            "rules": {
                "claim_days": 1,
                "urgent_claim_days": 1,
                "cap_per_day": 1,
                "duty": {},
                "retention": vars(Periods()),
            },
        },
    ),
    ("GET", "/v1/rules/trials"): Row(Permission.SEE_RULES, query="?desk=chemical"),
    ("POST", "/v1/cases/<case>/openings"): Row(Permission.OPEN_CASE, {"action": {}}),
    ("GET", "/v1/cases/<case>/grants"): Row(Permission.OPEN_CASE),
    ("POST", "/v1/cases/<case>/grants"): Row(
        Permission.REWRAP_GRANT, {"action": {}, "intake_key": OTHER, "grant": "AA=="}
    ),
    ("POST", "/v1/cases/<case>/re-wrappings"): Row(Permission.REWRAP_GRANT, {"action": {}}),
    ("GET", "/v1/intake-keys"): Row(Permission.REWRAP_GRANT),
    ("GET", "/v1/cases/<case>/manifest"): Row(Permission.OPEN_CASE),
    ("GET", "/v1/cases/<case>/objects/<int:n>"): Row(Permission.OPEN_CASE),
    ("POST", "/v1/cases/<case>/releases"): Row(
        Permission.REQUEST_RELEASE,
        {
            "action": {},
            "request": OTHER,
            "vault": "identity",
            "purpose": "icc",
            "to": None,
            "days": 1,
            "intake_key": OTHER,
            "reason_sha256": "0" * 64,
            "reasons": [{"custodian": OTHER, "intake_key": OTHER, "sealed": "AA=="}],
        },
    ),
    ("GET", "/v1/cases/<case>/releases"): Row(Permission.REQUEST_RELEASE),
    ("GET", "/v1/releases"): Row(Permission.ANSWER_RELEASE),
    ("GET", "/v1/releases/<request>"): Row(Permission.ANSWER_RELEASE),
    ("POST", "/v1/releases/<request>/openings"): Row(Permission.ANSWER_RELEASE, {"action": {}}),
    ("POST", "/v1/releases/<request>/shares"): Row(
        Permission.ANSWER_RELEASE,
        {"action": {}, "shares": [{"subset": [OTHER], "sealed": "AA=="}]},
    ),
    ("POST", "/v1/releases/<request>/refusals"): Row(
        Permission.ANSWER_RELEASE, {"action": {}, "reason": "AA=="}
    ),
    ("POST", "/v1/releases/<request>/readings"): Row(Permission.OPEN_RELEASE, {"action": {}}),
    ("GET", "/v1/releases/<request>/objects/<int:n>"): Row(Permission.OPEN_RELEASE),
    ("GET", "/v1/re-sharings"): Row(Permission.SHARE_ANEW),
    ("POST", "/v1/cases/<case>/re-sharings/openings"): Row(
        Permission.SHARE_ANEW, {"action": {}, "vault": "identity", "source": [OTHER]}
    ),
    ("POST", "/v1/cases/<case>/re-sharings"): Row(
        Permission.SHARE_ANEW,
        {"action": {}, "vault": "identity", "source": [OTHER], "pieces": []},
    ),
    ("POST", "/v1/conflicts"): Row(
        Permission.DECLARE_CONFLICT, {"action": {}, "conflicts": ["place:x"]}
    ),
    ("POST", "/v1/key-replacements"): Row(
        Permission.REPLACE_KEY,
        {"action": {}, "intake_key": "x", "intake_key_sig": "x", "replaces": OTHER},
    ),
    ("GET", "/v1/returned-cases"): Row(Permission.SEE_RETURNED_CASES),
    ("GET", "/v1/leavers/<person>"): Row(Permission.SEE_RETURNED_CASES),
    ("POST", "/v1/invitations"): Row(
        Permission.INVITE, {"action": {}, "role": "auditor", "desks": [], "days": 7}
    ),
    ("GET", "/v1/invitations"): Row(Permission.SEE_PEOPLE),
    ("POST", "/v1/invitations/<invitation>/withdrawal"): Row(
        Permission.INVITE, {"action": {}, "invitation": OTHER}
    ),
    ("GET", "/v1/enrolments"): Row(Permission.SEE_PEOPLE),
    ("GET", "/v1/people"): Row(Permission.SEE_PEOPLE),
    ("GET", "/v1/access-reviews"): Row(Permission.SEE_PEOPLE),
    ("GET", "/v1/desks"): Row(Permission.SEE_PEOPLE),
    ("GET", "/v1/record"): Row(Permission.SEE_RECORD),
    ("POST", "/v1/people/<person>/vetting"): Row(
        Permission.VET,
        {
            **ABOUT,
            "vouchers": ["a", "b"],
            "vetted_on": "2026-01-01",
            "valid_until": "2026-01-02",
            "languages": [],
            "specialities": [],
            "conflicts": [],
        },
    ),
    ("POST", "/v1/people/<person>/suspension"): Row(Permission.SUSPEND, {**ABOUT, "reason": "x"}),
    ("POST", "/v1/people/<person>/reinstatement"): Row(
        Permission.REINSTATE, {**ABOUT, "reason": "x"}
    ),
    ("POST", "/v1/people/<person>/confirmation"): Row(Permission.CONFIRM_ACCESS, ABOUT),
    ("POST", "/v1/cases/<case>/exports"): Row(Permission.REQUEST_EXPORT, {"action": {}, **ASKED}),
    ("GET", "/v1/exports"): Row(Permission.SEE_EXPORTS),
    ("POST", "/v1/exports/<export>/decisions"): Row(
        Permission.APPROVE_EXPORT,
        {
            "action": {},
            "export": OTHER,
            **ASKED,
            "decision": "refuse",
            "request": OTHER,
            "custody": None,
        },
    ),
    ("GET", "/v1/exports/<export>/leave"): Row(Permission.REQUEST_EXPORT),
    ("POST", "/v1/exports/<export>/completion"): Row(
        Permission.REQUEST_EXPORT,
        {
            "action": {},
            "export": OTHER,
            "bag_sha256": "0" * 64,
            "sealed_sha256": "0" * 64,
            "size": 1,
        },
    ),
    ("POST", "/v1/exports/<export>/receipt"): Row(
        Permission.REQUEST_EXPORT, {"action": {}, "export": OTHER, "receipt": {}}
    ),
    ("GET", "/v1/cases/<case>/custody"): Row(Permission.SEE_CUSTODY),
    ("GET", "/v1/cases/<case>/consent"): Row(Permission.OPEN_CASE),
    ("DELETE", "/v1/sessions"): ANYBODY,
}


def routes(app: Flask) -> set[tuple[str, str]]:
    """Return every method and rule that something of ours answers to."""
    found = set()
    for rule in app.url_map.iter_rules():
        if rule.rule in WITHOUT_BLUEPRINT:
            continue
        own = set(rule.methods or ())
        if own - {"HEAD", "OPTIONS"}:
            # Flask adds these two; only where nothing else is, they are ours.
            own -= {"HEAD", "OPTIONS"}
        found |= {(method, rule.rule) for method in own}
    return found


def test_every_blueprint_has_one_door(app: Flask) -> None:
    for name in app.blueprints:
        doors = DOORS & set(app.before_request_funcs.get(name, []))
        assert len(doors) == 1, f"blueprint {name!r} does not say who may pass"


def test_every_route_has_a_row_and_every_row_a_route(app: Flask) -> None:
    assert routes(app) == OPEN_TO_ALL | CLOSED.keys()


def path_of(rule: str, **parts: str) -> str:
    path = rule.replace("<int:n>", "1")
    usual = {"case": "a" * 32, "request": "c" * 32}
    usual |= dict.fromkeys(("person", "export", "invitation"), OTHER)
    for name, value in {**usual, **parts}.items():
        path = path.replace(f"<{name}>", value)
    return path


@pytest.fixture(scope="module")
def organisation(app: Flask, services: Services) -> Organisation:
    clock = services.clock
    assert isinstance(clock, Clock)
    folder = services.config.data.parent
    keys = [read_key(path, PASSPHRASE) for path in folder.glob("demo/administrators/*.key")]
    return Organisation(services, app, folder, clock, {}, keys[0])


@pytest.fixture(scope="module")
def staff(organisation: Organisation) -> dict[str, Person]:
    """One of each kind, signed in: the directory says who has which role."""
    found: dict[str, Person] = {}
    for path in sorted(organisation.folder.glob("demo/*/*.key")):
        keys = read_key(path, PASSPHRASE)
        listed = organisation.directory.person(keys.id)
        if listed is None:
            assert keys.role == "officer"
            continue
        kind = "+".join(sorted(listed.roles | listed.desks))
        found.setdefault(kind, organisation.as_person(keys).sign_in())
    assert {"administrator", "auditor", "custodian"} < found.keys()
    assert {"chemical+reviewer", "chemical+lead+reviewer", "general+reviewer"} < found.keys()
    return found


def send(person: Person, method: str, path: str, row: Row) -> Any:
    headers = person.signed(method, path)
    return person.client.open(path + row.query, method=method, headers=headers, json=row.body)


@pytest.mark.parametrize(("method", "rule"), sorted(CLOSED))
def test_nobody_enters_without_a_token_and_everybody_only_where_their_role_may(
    staff: dict[str, Person], app: Flask, method: str, rule: str
) -> None:
    row, path = CLOSED[method, rule], path_of(rule)
    for token in ({}, {"Authorization": "DPoP x"}, {"Authorization": "DPoP a.b.c", "DPoP": "x"}):
        answer = app.test_client().open(path, method=method, headers=token, json=row.body)
        assert answer.status_code == 401
        assert answer.get_json()["type"] == "not-signed-in"
        assert answer.headers["WWW-Authenticate"] == 'DPoP algs="EdDSA"'
    for kind, person in staff.items():
        if row.permission is None:
            continue
        answer = send(person, method, path, row)
        assert answer.status_code != 401, kind
        allowed = bool(set(kind.split("+")) & PERMISSIONS[row.permission])
        refused = (answer.get_json(silent=True) or {}).get("type") == "not-allowed"
        assert refused != allowed, (kind, answer.status_code)
        assert not refused or answer.status_code == 403


@pytest.mark.parametrize(
    ("method", "rule"), sorted(one for one in CLOSED if "<case>" in one[1] and one[0] == "GET")
)
def test_a_case_is_served_only_to_its_desk_and_only_under_an_opening(
    organisation: Organisation, staff: dict[str, Person], method: str, rule: str
) -> None:
    made = organisation.send("chemical")
    path = path_of(rule, case=made.case)
    own = send(staff["chemical+reviewer"], method, path, ANYBODY)
    if rule in {"/v1/cases/<case>", "/v1/cases/<case>/releases", "/v1/cases/<case>/retention"}:
        assert own.status_code == 200
    elif rule.endswith("/grants"):
        assert (own.status_code, own.get_json()["type"]) == (403, "opening-needed")
    elif rule.endswith("/custody"):
        # It tells of acts, not of what was said.
        assert (own.status_code, own.get_json()["type"]) == (403, "not-assigned")
        assert staff["chemical+reviewer"].claim(made.case).status_code == 204
        assert send(staff["chemical+reviewer"], method, path, ANYBODY).status_code == 200
        assert send(staff["auditor"], method, path, ANYBODY).status_code == 200
    else:
        assert (own.status_code, own.get_json()["type"]) == (403, "not-assigned")
        assert staff["chemical+reviewer"].claim(made.case).status_code == 204
        claimed = send(staff["chemical+reviewer"], method, path, ANYBODY)
        assert (claimed.status_code, claimed.get_json()["type"]) == (403, "opening-needed")
    other = send(staff["general+reviewer"], method, path, ANYBODY)
    assert (other.status_code, other.get_json()["type"]) == (404, "not-found")


@dataclass(frozen=True)
class Strangers:
    """Who have the role for a route, and not what it is about; whose it is; and as what the act is signed."""

    people: tuple[str, ...]
    owner: str | None = None
    kind: str = ""


def of_case(kind: str = "", *strangers: str) -> Strangers:
    return Strangers(strangers or ("reader elsewhere", "lead elsewhere"), None, kind)


def of_export(kind: str = "") -> Strangers:
    return Strangers(("colleague", "reader elsewhere"), "reader", kind)


def of_release(kind: str = "") -> Strangers:
    return Strangers(("colleague", "reader elsewhere"), "reader", kind)


def of_custodians(kind: str = "") -> Strangers:
    return Strangers(("new custodian",), "custodian", kind)


OWNERSHIP = {
    ("GET", "/v1/cases/<case>"): of_case(),
    ("GET", "/v1/cases/<case>/consent"): of_case(),
    ("GET", "/v1/cases/<case>/custody"): of_case(),
    ("GET", "/v1/cases/<case>/grants"): of_case(),
    ("GET", "/v1/cases/<case>/manifest"): of_case(),
    ("GET", "/v1/cases/<case>/notes"): of_case(),
    ("GET", "/v1/cases/<case>/objects/<int:n>"): of_case(),
    ("GET", "/v1/cases/<case>/releases"): of_case(),
    ("GET", "/v1/cases/<case>/retention"): of_case(),
    ("POST", "/v1/cases/<case>/claims"): of_case("claim"),
    ("POST", "/v1/cases/<case>/claims/release"): of_case("release"),
    ("POST", "/v1/cases/<case>/decisions"): of_case("decide"),
    ("POST", "/v1/cases/<case>/exports"): of_case("export-request"),
    ("POST", "/v1/cases/<case>/grants"): of_case("re-wrap"),
    ("POST", "/v1/cases/<case>/hand-overs"): of_case("hand-over"),
    ("POST", "/v1/cases/<case>/notes"): of_case("note"),
    ("POST", "/v1/cases/<case>/openings"): of_case("open"),
    ("POST", "/v1/cases/<case>/prolongations"): of_case("prolong", "lead elsewhere"),
    ("POST", "/v1/cases/<case>/re-sharings"): of_case("re-share", "new custodian"),
    ("POST", "/v1/cases/<case>/re-sharings/openings"): of_case("re-share", "new custodian"),
    ("POST", "/v1/cases/<case>/re-wrappings"): of_case("re-wrap"),
    ("POST", "/v1/cases/<case>/recusals"): of_case("recuse"),
    ("POST", "/v1/cases/<case>/releases"): of_case("release-request"),
    ("POST", "/v1/cases/<case>/reopenings"): of_case("reopen"),
    ("POST", "/v1/cases/<case>/resumptions"): of_case("resume"),
    ("GET", "/v1/exports/<export>/leave"): of_export(),
    ("POST", "/v1/exports/<export>/completion"): of_export("export-complete"),
    ("POST", "/v1/exports/<export>/receipt"): of_export("export-receipt"),
    ("GET", "/v1/leavers/<person>"): Strangers(("lead elsewhere",), "reader"),
    ("GET", "/v1/releases/<request>"): of_custodians(),
    ("POST", "/v1/releases/<request>/openings"): of_custodians("release-share"),
    ("POST", "/v1/releases/<request>/shares"): of_custodians("release-share"),
    ("POST", "/v1/releases/<request>/refusals"): of_custodians("release-decline"),
    ("GET", "/v1/releases/<request>/objects/<int:n>"): of_release(),
    ("POST", "/v1/releases/<request>/readings"): of_release("release-open"),
}
OF_ALL_ADMINISTRATORS = {
    ("POST", "/v1/exports/<export>/decisions"),
    ("POST", "/v1/invitations/<invitation>/withdrawal"),
    ("POST", "/v1/people/<person>/confirmation"),
    ("POST", "/v1/people/<person>/reinstatement"),
    ("POST", "/v1/people/<person>/suspension"),
    ("POST", "/v1/people/<person>/vetting"),
}
"""What any administrator decides, but about themselves."""


def test_every_route_about_something_says_whose_it_is() -> None:
    about_something = {(method, rule) for method, rule in CLOSED if re.search("<(?!int:)", rule)}
    assert about_something == OWNERSHIP.keys() | OF_ALL_ADMINISTRATORS
    assert not OWNERSHIP.keys() & OF_ALL_ADMINISTRATORS


@dataclass
class Belongings:
    """One thing of each kind, all of one case at the desk `chemical`, and people who have and have not to do with it."""

    ids: dict[str, str]
    people: dict[str, Person]

    @classmethod
    def make(cls, organisation: Organisation) -> "Belongings":
        officers, leaver, newcomer = Officers(organisation), new_keys(), new_keys("custodian")
        officers.publish(lambda description: list_by_hand(description, leaver, "chemical"))
        vaulted = Vaulted.make(organisation, scopes={**SCOPES, "icc": "allow"})
        administrator = organisation.as_person(organisation.administrator).sign_in()
        [partner] = organisation.of_role("partner")
        leaving = Leaving(organisation, vaulted.made, vaulted.reader, administrator, partner)
        request = vaulted.asked()
        opened = vaulted.reader.act("open", f"/v1/cases/{vaulted.case}/openings", vaulted.case)
        assert opened.status_code == 201
        leaving.decide_case("accept")
        ids = {
            "case": vaulted.case,
            "export": leaving.approved(),
            "request": request,
            "person": leaver.id,
        }
        officers.publish(lambda description: make_custodian(description, newcomer))
        decide(administrator, "suspend", "suspension", leaver.id, reason="left")
        elsewhere, (_, colleague) = organisation.desks["general"], organisation.desks["chemical"]
        people = {
            "reader": vaulted.reader,
            "colleague": organisation.as_person(colleague).sign_in(),
            "lead elsewhere": organisation.as_person(elsewhere[0]).sign_in(),
            "reader elsewhere": organisation.as_person(elsewhere[1]).sign_in(),
            "custodian": vaulted.custodians[0].sign_in(),
            "new custodian": organisation.as_person(newcomer).sign_in(),
        }
        return cls(ids, people)

    def ask(self, who: str, method: str, rule: str, **ids: str) -> Any:
        """Let somebody ask for what belongs here, or for something else by `ids`, with an act that they signed."""
        known, person, row = {**self.ids, **ids}, self.people[who], CLOSED[method, rule]
        path = path_of(rule, **known)
        if row.body is None:
            return send(person, method, path, row)
        body = {name: value for name, value in row.body.items() if name != "action"}
        body |= {name: value for name, value in known.items() if name in body}
        signed = {**body, "request": known["request"]} if "<request>" in rule else body
        action = person.action(
            known["case"],
            action=OWNERSHIP[method, rule].kind,
            body=signed,
            directory=person.organisation.directory.version,
        )
        return send(person, method, path, Row(None, {**body, "action": action}))


@pytest.fixture(scope="module")
def belongings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Belongings]:
    with organisation_in(tmp_path_factory.mktemp("belongings")) as own:
        yield Belongings.make(own)


@pytest.mark.parametrize(("method", "rule"), sorted(OWNERSHIP))
def test_who_asks_for_what_is_not_theirs_is_told_what_nothing_would_tell(
    belongings: Belongings, method: str, rule: str
) -> None:
    theirs, permission = OWNERSHIP[method, rule], CLOSED[method, rule].permission
    [name] = re.findall("<([a-z]+)>", rule)
    assert permission is not None
    for stranger in theirs.people:
        person = belongings.people[stranger]
        listed = person.organisation.directory.person(person.keys.id)
        assert listed is not None
        assert listed.roles & PERMISSIONS[permission], (
            "whose role does not let them in is no stranger"
        )
        real = belongings.ask(stranger, method, rule)
        nothing = belongings.ask(stranger, method, rule, **{name: random_id()})
        assert (real.status_code, real.get_json()["type"]) == (404, "not-found"), stranger
        assert real.get_json() == nothing.get_json(), stranger
    if theirs.owner is not None:
        own = belongings.ask(theirs.owner, method, rule)
        assert own.status_code != 404, own.get_json()


ABOUT_PEOPLE = sorted(rule for method, rule in CLOSED if "<person>" in rule and method == "POST")


@pytest.mark.parametrize("rule", ABOUT_PEOPLE)
def test_nobody_decides_about_themselves(staff: dict[str, Person], rule: str) -> None:
    person = staff["administrator"]
    row = CLOSED["POST", rule]
    itself = Row(row.permission, {**(row.body or {}), "person": person.keys.id})
    answer = send(person, "POST", path_of(rule, person=person.keys.id), itself)
    assert (answer.status_code, answer.get_json()["type"]) == (403, "own-act")


@pytest.mark.parametrize("rule", ABOUT_PEOPLE)
def test_what_is_signed_about_one_person_does_not_touch_another(
    staff: dict[str, Person], rule: str
) -> None:
    answer = send(
        staff["administrator"],
        "POST",
        path_of(rule, person=staff["custodian"].keys.id),
        CLOSED["POST", rule],
    )
    assert (answer.status_code, answer.get_json()["type"]) == (422, "action-refused")


@pytest.mark.parametrize("field", ["role", "roles", "desks", "listed", "standing", "signing_key"])
@pytest.mark.parametrize(
    ("method", "rule"), sorted(one for one, row in CLOSED.items() if row.body is not None)
)
def test_no_field_that_can_be_written_gives_a_right(
    staff: dict[str, Person], method: str, rule: str, field: str
) -> None:
    row = CLOSED[method, rule]
    if field in (row.body or {}):
        return
    for person in staff.values():
        more = Row(row.permission, {**(row.body or {}), field: "administrator"})
        answer = send(person, method, path_of(rule), more)
        assert answer.status_code == 422
        assert answer.get_json()["type"] == "unprocessable-entity"


def test_the_public_surface_has_nothing_of_staff(services: Services) -> None:
    rules = {rule.rule for rule in create_app(services, Surface.INTAKE).url_map.iter_rules()}
    assert not rules & ({rule for _, rule in CLOSED} | {"/docs", "/openapi.json", "/v1/sessions"})
    assert "/v1/testimonies" in rules


def test_the_desk_takes_no_testimonies(services: Services) -> None:
    rules = {rule.rule for rule in create_app(services, Surface.DESK).url_map.iter_rules()}
    assert not rules & {"/v1/testimonies", "/v1/admission", "/v1/uploads/<capability>"}
    assert "/v1/cases" in rules


RIGHTS = Path(__file__).parents[2] / "docs" / "rights.md"


def test_the_documented_table_of_rights_is_the_one_in_the_code() -> None:
    from scripts.write_rights import text

    assert RIGHTS.read_text("utf-8") == text(), "run 'make openapi'"
