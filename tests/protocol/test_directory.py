"""Whom the officers may list, and who of them gets a grant."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amana.client.keyfile import PersonKeys, intake_key_fields
from amana.protocol.codename import word_list
from amana.protocol.directory import (
    TARGETS_DAYS,
    Desk,
    Directory,
    DirectoryExpired,
    DirectoryIncomplete,
    DirectoryInvalid,
    NoReader,
    Reader,
    RootPins,
    check_signed,
    eligible,
    fingerprint,
    parse_directory,
    readers,
    sign_intake_key,
    target_names,
)
from amana.protocol.encoding import b64, canonical, random_id
from amana.protocol.errors import BadSignature, ProtocolError
from amana.protocol.policy import FLAGS, RESTRICTING_FLAGS
from amana.protocol.sealing import Identity, Recipient
from amana.protocol.signing import SigningKey
from tests.support.ceremony import DEPLOYMENT, Ceremony, desk, reader

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "directory.json").read_bytes())
CEREMONY = Ceremony()
OTHER = PersonKeys.generate("reviewer")
PARTNER = PersonKeys.generate("custodian")


def parts(**changes: Any) -> dict[str, Any]:
    """Return the targets of one version as objects, before they become bytes."""
    return {
        name: json.loads(content) for name, content in CEREMONY.proposal(**changes).files.items()
    }


PARTS = parts()


def parsed(documents: dict[str, Any]) -> Directory:
    return parse_directory({name: canonical(one) for name, one in documents.items()})


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """Return the parts after `change` had them."""
    documents: dict[str, Any] = json.loads(json.dumps(PARTS))
    change(documents)
    return documents


def chemical(documents: dict[str, Any]) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = documents["desks/chemical.json"]["readers"]
    return listed


def refusal(documents: dict[str, Any]) -> str:
    with pytest.raises(ProtocolError) as refused:
        parsed(documents)
    return refused.value.slug


def test_a_directory_says_who_reads_at_which_desk_and_who_signs() -> None:
    directory = parsed(PARTS)
    assert (directory.deployment, directory.version) == (DEPLOYMENT, 1)
    assert [one.id for one in directory.readers_of("chemical")] == [
        CEREMONY.lead.id,
        CEREMONY.reviewer.id,
    ]
    found = directory.person(CEREMONY.reviewer.id)
    assert found is not None
    assert found.desks == {"chemical", "general"}
    assert found.signing_key == CEREMONY.reviewer.signing.public
    custodian = directory.person(CEREMONY.custodian.id)
    assert custodian is not None
    assert (custodian.roles, custodian.desks) == ({"custodian"}, frozenset())
    assert directory.person(random_id()) is None
    with pytest.raises(DirectoryInvalid) as refused:
        directory.desk("nowhere")
    assert refused.value.slug == "desk-unknown"


def test_unknown_fields_pass_under_ext_only() -> None:
    def extend(documents: dict[str, Any]) -> None:
        documents["directory.json"]["ext"] = {"later": [1]}
        documents["directory.json"]["desks"][0]["ext"] = {"later": 1}
        documents["directory.json"]["consent_texts"][0]["ext"] = {"later": 1}
        documents["people.json"]["people"][0]["ext"] = {}
        chemical(documents)[0]["ext"] = {"later": "x"}

    assert parsed(changed(extend)).version == 1


@pytest.mark.parametrize(
    "place",
    [
        lambda d: d["directory.json"],
        lambda d: d["directory.json"]["desks"][0],
        lambda d: d["directory.json"]["custodians"],
        lambda d: d["directory.json"]["custodians"]["members"][0],
        lambda d: d["directory.json"]["consent_texts"][0],
        lambda d: d["people.json"],
        lambda d: d["people.json"]["people"][0],
        lambda d: d["desks/chemical.json"],
        lambda d: chemical(d)[0],
    ],
)
def test_an_unknown_field_outside_ext_is_refused(place: Callable[[Any], dict[str, Any]]) -> None:
    assert refusal(changed(lambda d: place(d).update(speciality="x"))) == "directory-invalid"


def _remove_target(documents: dict[str, Any]) -> None:
    del documents["desks/general.json"]


def _add_target(documents: dict[str, Any]) -> None:
    documents["desks/more.json"] = documents["desks/general.json"]


def _list_desk_twice(documents: dict[str, Any]) -> None:
    documents["directory.json"]["desks"].append(documents["directory.json"]["desks"][0])


def _swap_desks(documents: dict[str, Any]) -> None:
    first, second = "desks/chemical.json", "desks/general.json"
    documents[first], documents[second] = documents[second], documents[first]


def _lead_who_reads_elsewhere(documents: dict[str, Any]) -> None:
    documents["directory.json"]["desks"][1]["leads"] = [CEREMONY.lead.id]


def _lead_without_the_role(documents: dict[str, Any]) -> None:
    documents["directory.json"]["desks"][1]["leads"] = [CEREMONY.reviewer.id]


def _role_without_the_lead(documents: dict[str, Any]) -> None:
    documents["directory.json"]["desks"][0]["leads"] = []


def _lead_twice(documents: dict[str, Any]) -> None:
    documents["directory.json"]["desks"][0]["leads"] *= 2


def _reader_twice(documents: dict[str, Any]) -> None:
    chemical(documents).append(chemical(documents)[1])


def _intake_key_of_another(documents: dict[str, Any]) -> None:
    taken = CEREMONY.lead.intake_recipient
    chemical(documents)[1].update(
        intake_key=str(taken),
        intake_key_sig=sign_intake_key(CEREMONY.reviewer.signing, CEREMONY.reviewer.id, taken),
    )


def _signing_key_of_another(documents: dict[str, Any]) -> None:
    documents["people.json"]["people"][0]["signing_key"] = CEREMONY.lead.signing.public


def _another_intake_key_at_another_desk(documents: dict[str, Any]) -> None:
    other = Identity.generate().recipient
    documents["desks/general.json"]["readers"][0].update(
        intake_key=str(other),
        intake_key_sig=sign_intake_key(CEREMONY.reviewer.signing, CEREMONY.reviewer.id, other),
    )


def _another_signing_key_at_another_desk(documents: dict[str, Any]) -> None:
    other = SigningKey.generate()
    documents["desks/general.json"]["readers"][0].update(
        signing_key=other.public,
        intake_key_sig=sign_intake_key(
            other, CEREMONY.reviewer.id, CEREMONY.reviewer.intake_recipient
        ),
    )


def _custodian_with_a_readers_key(documents: dict[str, Any]) -> None:
    custodian = CEREMONY.custodian
    key = CEREMONY.lead.intake_recipient
    documents["directory.json"]["custodians"]["members"][0].update(
        intake_key=str(key), intake_key_sig=sign_intake_key(custodian.signing, custodian.id, key)
    )


def _partner(documents: dict[str, Any], keys: PersonKeys, **changes: Any) -> None:
    documents["directory.json"]["partners"].append(
        {"id": keys.id, **intake_key_fields(keys), "purposes": ["accountability"]} | changes
    )
    documents["people.json"]["people"].append(
        {"id": keys.id, "roles": ["partner"], "signing_key": keys.signing.public}
    )


def _partner_with_a_custodians_key(documents: dict[str, Any]) -> None:
    key = CEREMONY.custodian.intake_recipient
    signed = sign_intake_key(PARTNER.signing, PARTNER.id, key)
    _partner(documents, PARTNER, intake_key=str(key), intake_key_sig=signed)


def _partner_who_is_none_of_the_people(documents: dict[str, Any]) -> None:
    _partner(documents, PARTNER)
    documents["people.json"]["people"].pop()


def _partner_twice(documents: dict[str, Any]) -> None:
    _partner(documents, PARTNER)
    documents["directory.json"]["partners"] *= 2


def _own_key_for_two_purposes(documents: dict[str, Any]) -> None:
    lead = CEREMONY.lead
    documents["people.json"]["people"].append(
        {"id": lead.id, "roles": ["custodian"], "signing_key": lead.signing.public}
    )
    documents["directory.json"]["custodians"]["members"].append(
        {"id": lead.id, **intake_key_fields(lead)}
    )


def _unknown_custodian(documents: dict[str, Any]) -> None:
    documents["directory.json"]["custodians"]["members"][0]["id"] = random_id()


def _administrator_as_custodian(documents: dict[str, Any]) -> None:
    documents["directory.json"]["custodians"]["members"][0]["id"] = CEREMONY.administrator.id


def _too_many_custodians_asked_for(documents: dict[str, Any]) -> None:
    documents["directory.json"]["custodians"]["k"] = 2


def _no_custodian_asked_for(documents: dict[str, Any]) -> None:
    documents["directory.json"]["custodians"]["k"] = 0


def _administrator_who_reads(documents: dict[str, Any]) -> None:
    documents["people.json"]["people"].append(
        {
            "id": CEREMONY.lead.id,
            "roles": ["administrator"],
            "signing_key": CEREMONY.lead.signing.public,
        }
    )


def _person_twice(documents: dict[str, Any]) -> None:
    documents["people.json"]["people"] *= 2


def _person_without_role(documents: dict[str, Any]) -> None:
    documents["people.json"]["people"][0]["roles"] = []


def _reader_with_an_administrators_role(documents: dict[str, Any]) -> None:
    chemical(documents)[1]["roles"] = ["administrator", "reviewer"]


def _short_key(documents: dict[str, Any]) -> None:
    documents["people.json"]["people"][0]["signing_key"] = b64(bytes(31))


def _text_without_its_hash(documents: dict[str, Any]) -> None:
    documents["directory.json"]["consent_texts"][0]["text"] = "I agree to everything"


def _text_twice(documents: dict[str, Any]) -> None:
    documents["directory.json"]["consent_texts"] *= 2


def _flag_that_does_not_restrict(documents: dict[str, Any]) -> None:
    chemical(documents)[1]["takes"] = ["urgent"]


def _readable_person_id(documents: dict[str, Any]) -> None:
    documents["people.json"]["people"][0]["id"] = "salma"


def _desk_id_that_leads_elsewhere(documents: dict[str, Any]) -> None:
    documents["directory.json"]["desks"][0]["id"] = "../people"


def _version_of_tomorrow(documents: dict[str, Any]) -> None:
    documents["directory.json"]["v"] = 2


@pytest.mark.parametrize(
    ("change", "slug"),
    [
        (_remove_target, "directory-incomplete"),
        (_add_target, "directory-incomplete"),
        *(
            (change, "directory-invalid")
            for change in (
                _list_desk_twice,
                _swap_desks,
                _lead_who_reads_elsewhere,
                _lead_without_the_role,
                _role_without_the_lead,
                _lead_twice,
                _reader_twice,
                _intake_key_of_another,
                _signing_key_of_another,
                _another_intake_key_at_another_desk,
                _another_signing_key_at_another_desk,
                _custodian_with_a_readers_key,
                _own_key_for_two_purposes,
                _partner_with_a_custodians_key,
                _partner_who_is_none_of_the_people,
                _partner_twice,
                _unknown_custodian,
                _administrator_as_custodian,
                _too_many_custodians_asked_for,
                _no_custodian_asked_for,
                _administrator_who_reads,
                _person_twice,
                _person_without_role,
                _reader_with_an_administrators_role,
                _short_key,
                _text_without_its_hash,
                _text_twice,
                _flag_that_does_not_restrict,
                _readable_person_id,
                _desk_id_that_leads_elsewhere,
                _version_of_tomorrow,
            )
        ),
    ],
    ids=lambda value: getattr(value, "__name__", value).strip("_"),
)
def test_a_directory_that_contradicts_itself_is_refused(
    change: Callable[[dict[str, Any]], None], slug: str
) -> None:
    assert refusal(changed(change)) == slug


def test_a_partner_is_listed_with_a_key_of_their_own() -> None:
    directory = parsed(changed(lambda documents: _partner(documents, PARTNER)))
    partner = directory.person(PARTNER.id)
    assert partner is not None
    assert partner.roles == {"partner"}


@pytest.mark.parametrize("place", ["custodians", "partners"])
def test_a_share_key_that_another_signed_is_refused(place: str) -> None:
    keys = CEREMONY.custodian if place == "custodians" else PARTNER

    def slip_in(documents: dict[str, Any]) -> None:
        _partner(documents, PARTNER)
        listed = documents["directory.json"]
        holders = listed["custodians"]["members"] if place == "custodians" else listed["partners"]
        holders[0]["intake_key_sig"] = sign_intake_key(
            OTHER.signing, keys.id, keys.intake_recipient
        )

    assert refusal(changed(slip_in)) == "bad-signature"


def test_a_reader_whose_intake_key_another_signed_is_refused() -> None:
    def slip_in(documents: dict[str, Any]) -> None:
        intake = Identity.generate().recipient
        signed = sign_intake_key(OTHER.signing, CEREMONY.reviewer.id, intake)
        for name in ("desks/chemical.json", "desks/general.json"):
            documents[name]["readers"][-1].update(intake_key=str(intake), intake_key_sig=signed)

    assert refusal(changed(slip_in)) == BadSignature.slug


def test_sixteen_readers_fit_at_a_desk_and_seventeen_do_not() -> None:
    def fill(documents: dict[str, Any], count: int) -> None:
        documents["directory.json"]["desks"][0]["leads"] = []
        documents["desks/chemical.json"]["readers"] = [
            reader(PersonKeys.generate("reviewer")) for _ in range(count)
        ]

    assert len(parsed(changed(lambda d: fill(d, 16))).readers_of("chemical")) == 16
    assert refusal(changed(lambda d: fill(d, 17))) == "directory-invalid"


def test_json_in_another_spelling_is_refused() -> None:
    files = {name: canonical(one) for name, one in PARTS.items()}
    files["people.json"] = json.dumps(PARTS["people.json"]).encode()
    with pytest.raises(ProtocolError) as refused:
        parse_directory(files)
    assert refused.value.slug == "not-canonical"


@given(st.dictionaries(st.sampled_from(sorted(PARTS)), st.binary(max_size=400)))
def test_no_bytes_bring_the_parser_down(junk: dict[str, bytes]) -> None:
    files = {name: canonical(one) for name, one in PARTS.items()} | junk
    if junk:
        with pytest.raises(ProtocolError):
            parse_directory(files)


LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4) | st.just([{}])


@st.composite
def one_value_replaced(draw: st.DrawFn) -> dict[str, Any]:
    """Replace one value, anywhere in the parts, by one of another kind."""
    documents = changed(lambda _: None)
    place: Any = documents[draw(st.sampled_from(sorted(documents)))]
    while True:
        key = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        below = place[key]
        if not (isinstance(below, dict | list) and below) or draw(st.integers(0, 4)) == 0:
            place[key] = draw(LEAVES)
            return documents
        place = below


@given(one_value_replaced())
@settings(max_examples=300)
def test_a_value_of_another_kind_is_a_refusal_and_nothing_else(documents: dict[str, Any]) -> None:
    try:
        parsed(documents)
    except ProtocolError as refused:
        assert refused.slug  # noqa: PT017


PINS: dict[str, Any] = {
    "v": 1,
    "deployment": DEPLOYMENT,
    "directory_log": {"origin": f"{DEPLOYMENT}/a", "key": SigningKey.generate().public},
    "custody_log": {"origin": f"{DEPLOYMENT}/b", "key": SigningKey.generate().public},
    "cosigners": [],
    "quorum": 0,
}


def test_a_root_pins_deployment_and_logs() -> None:
    pinned = RootPins.parse(PINS)
    assert pinned.deployment == DEPLOYMENT
    assert pinned.custody_log_key == PINS["custody_log"]["key"]
    assert pinned.custody_log.name == f"{DEPLOYMENT}/b"


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"deployment": 1},
        {"custody_log": None},
        {"directory_log": {"origin": f"{DEPLOYMENT}/a", "key": "AAAA"}},
        *(
            {"directory_log": {"origin": origin, "key": PINS["directory_log"]["key"]}}
            for origin in (
                "",
                "a",
                "other/a",
                f"{DEPLOYMENT}/",
                f"{DEPLOYMENT}/a b",
                f"{DEPLOYMENT}/b",
            )
        ),
        {"directory_log": {"origin": f"{DEPLOYMENT}/a", "key": PINS["custody_log"]["key"]}},
        {"deployment": "amana test"},
        {"quorum": 1},
        {"more": 1},
    ],
)
def test_a_root_with_other_pins_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        RootPins.parse(PINS | changes)


NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def check(directory: Directory, **changes: Any) -> None:
    around: dict[str, Any] = {
        "version": 1,
        "expires": NOW + timedelta(days=TARGETS_DAYS),
        "deployment": DEPLOYMENT,
        "root_keys": [SigningKey.generate().public],
        "now": NOW,
    }
    check_signed(directory, **(around | changes))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"version": 2}, DirectoryInvalid),
        ({"deployment": "another"}, DirectoryInvalid),
        ({"expires": NOW}, DirectoryExpired),
        ({"expires": NOW + timedelta(days=TARGETS_DAYS, hours=2)}, DirectoryExpired),
        ({"root_keys": [CEREMONY.lead.signing.public]}, DirectoryInvalid),
        ({"root_keys": [CEREMONY.administrator.signing.public]}, DirectoryInvalid),
    ],
)
def test_a_directory_that_does_not_fit_what_was_signed_is_refused(
    changes: dict[str, Any], error: type[ProtocolError]
) -> None:
    directory = parsed(PARTS)
    check(directory)
    with pytest.raises(error):
        check(directory, **changes)


def test_target_names_are_those_of_the_version() -> None:
    names = target_names(canonical(PARTS["directory.json"]))
    assert names == set(PARTS)
    assert names == {
        "directory.json",
        "people.json",
        "desks/chemical.json",
        "desks/general.json",
    }
    with pytest.raises(DirectoryIncomplete):
        parse_directory({})


# Who gets a grant


@dataclass(frozen=True)
class Wanted:
    flags: tuple[str, ...]
    desk: str = "chemical"


@cache
def any_recipient() -> Recipient:
    return Identity.generate().recipient


@st.composite
def staffed(draw: st.DrawFn) -> Directory:
    """Return a directory whose one desk has up to 16 readers, any of them leads, taking any flags."""
    takes = draw(st.lists(st.sets(st.sampled_from(sorted(RESTRICTING_FLAGS))), max_size=16))
    listed = [
        Reader(
            id=f"{number:a>32}",
            roles=frozenset({"lead"} if draw(st.integers(0, 3)) == 0 else {"reviewer"}),
            signing_key="",
            intake_key=any_recipient(),
            takes=frozenset(flags),
        )
        for number, flags in enumerate(takes)
    ]
    chosen = Desk(
        id="chemical",
        names={},
        languages=(),
        flags=(),
        draw=draw(st.integers(0, 17)),
        leads=tuple(one.id for one in listed if "lead" in one.roles),
    )
    return Directory(DEPLOYMENT, 1, (chosen,), {"chemical": tuple(listed)}, {}, (), {})


wanted = st.builds(
    Wanted, st.lists(st.sampled_from(FLAGS), unique=True).map(lambda flags: tuple(sorted(flags)))
)


@given(staffed(), wanted, st.data())
@settings(max_examples=300)
def test_grants_go_to_eligible_leads_and_as_many_others_as_the_desk_draws(
    directory: Directory, policy: Wanted, data: st.DataObject
) -> None:
    [one] = directory.desks
    able = eligible(directory, policy)
    restricting = set(policy.flags) & {"minor", "sexual_violence"}
    assert able == {r.id for r in directory.readers_of("chemical") if restricting <= r.takes}

    def randomness(below: int) -> int:
        return data.draw(st.integers(0, below - 1))

    if not able:
        with pytest.raises(NoReader) as refused:
            readers(directory, policy, randomness)
        assert refused.value.slug == "no-reader"
        return
    chosen = [r.id for r in readers(directory, policy, randomness)]
    assert len(chosen) == len(set(chosen))
    assert set(chosen) <= able
    leads = able & set(one.leads)
    assert leads <= set(chosen)
    others = len(able) - len(leads)
    assert len(chosen) - len(leads) == (min(one.draw, others) if one.draw else others)


def test_every_set_of_readers_is_drawn_equally_often() -> None:
    """Five readers, two drawn: going through every outcome of the randomness gives each pair twice."""
    listed = tuple(
        Reader(f"{n:a>32}", frozenset({"reviewer"}), "", any_recipient(), frozenset())
        for n in range(5)
    )
    drawing = Desk("chemical", {}, (), (), 2, ())
    directory = Directory(DEPLOYMENT, 1, (drawing,), {"chemical": listed}, {}, (), {})
    drawn: Counter[frozenset[str]] = Counter()
    for first in range(5):
        for second in range(4):
            outcomes = iter([first, second])
            bounds = []

            def randomness(below: int) -> int:
                bounds.append(below)  # noqa: B023
                return next(outcomes)  # noqa: B023

            drawn[frozenset(r.id for r in readers(directory, Wanted(()), randomness))] += 1
            assert bounds == [5, 4]
    assert drawn == {frozenset(pair): 2 for pair in combinations([r.id for r in listed], 2)}


def test_an_urgent_testimony_that_names_others_goes_to_everybody() -> None:
    directory = parsed(PARTS)
    assert eligible(directory, Wanted(("names_others", "urgent"))) == {
        CEREMONY.lead.id,
        CEREMONY.reviewer.id,
    }
    assert eligible(directory, Wanted(("minor",))) == {CEREMONY.lead.id}
    with pytest.raises(NoReader):
        readers(directory, Wanted(("minor",), desk="general"), lambda _: 0)


# Vectors


@pytest.mark.parametrize("vector", VECTORS["directories"], ids=lambda vector: vector["says"])
def test_vectors_of_directories(vector: dict[str, Any]) -> None:
    base = VECTORS["base"]
    files = {name: text.encode() for name, text in (base | vector["targets"]).items() if text}
    if vector["slug"] is None:
        assert parse_directory(files).deployment == "amana-vectors"
        return
    with pytest.raises(ProtocolError) as refused:
        parse_directory(files)
    assert refused.value.slug == vector["slug"]


@pytest.mark.parametrize("vector", VECTORS["readers"], ids=lambda vector: vector["says"])
def test_vectors_of_readers(vector: dict[str, Any]) -> None:
    directory = parse_directory({name: text.encode() for name, text in VECTORS["base"].items()})
    drawn = iter(vector["random"])
    policy = Wanted(tuple(vector["flags"]), vector["desk"])
    if vector["chosen"] is None:
        with pytest.raises(NoReader):
            readers(directory, policy, lambda _: next(drawn))
        return
    assert [one.id for one in readers(directory, policy, lambda _: next(drawn))] == vector["chosen"]
    assert sorted(eligible(directory, policy)) == vector["eligible"]


@pytest.mark.parametrize("vector", VECTORS["intake_keys"])
def test_vectors_of_intake_keys(vector: dict[str, Any]) -> None:
    key = SigningKey(bytes.fromhex(vector["signing_seed"]))
    recipient = Recipient.parse(vector["public"]["intake_key"])
    assert (
        sign_intake_key(key, vector["public"]["id"], recipient)
        == (vector["public"]["intake_key_sig"])
    )
    assert key.public == vector["public"]["signing_key"]
    assert fingerprint(vector["public"]) == vector["fingerprint"]


def test_a_fingerprint_speaks_for_every_public_part() -> None:
    public = {k: reader(OTHER)[k] for k in ("id", "signing_key", "intake_key", "intake_key_sig")}
    shown = fingerprint(public)
    assert len(shown.split()) == 11
    assert set(shown.split()) <= set(word_list("en"))
    for name in public:
        assert fingerprint(public | {name: "x"}) != shown


def test_a_desk_that_draws_is_parsed_as_such() -> None:
    directory = parsed(parts(desks=[desk("chemical", [reader(OTHER)], draw=3)]))
    assert directory.desk("chemical").draw == 3
