# SPDX-License-Identifier: AGPL-3.0-or-later
"""Write tests/vectors/directory.json anew: run `python -m scripts.make_vectors_directory`; it is the same every time."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amana.protocol.directory import (
    NoReader,
    eligible,
    fingerprint,
    parse_directory,
    readers,
    sign_intake_key,
)
from amana.protocol.encoding import b32, canonical, sha256, sha256_hex
from amana.protocol.errors import ProtocolError
from amana.protocol.sealing import Identity
from amana.protocol.signing import SigningKey

OUT = Path(__file__).parents[1] / "tests" / "vectors" / "directory.json"


@dataclass(frozen=True)
class _Policy:
    desk: str
    flags: tuple[str, ...]


def _seed(name: str, purpose: str) -> bytes:
    return sha256(f"vector {purpose} {name}".encode())


def _id(name: str) -> str:
    return b32(_seed(name, "id")[:20])


def _signing(name: str) -> SigningKey:
    return SigningKey(_seed(name, "signing"))


def _holder(name: str) -> dict[str, Any]:
    recipient = Identity.from_seed(_seed(name, "intake")).recipient
    return {
        "id": _id(name),
        "intake_key": str(recipient),
        "intake_key_sig": sign_intake_key(_signing(name), _id(name), recipient),
    }


def _reader(name: str, *, roles: list[str], takes: list[str]) -> dict[str, Any]:
    return {
        **_holder(name),
        "roles": roles,
        "signing_key": _signing(name).public,
        "takes": takes,
    }


def _person(name: str, role: str) -> dict[str, Any]:
    return {"id": _id(name), "roles": [role], "signing_key": _signing(name).public}


def _desk(name: str, *, draw: int, leads: list[str]) -> dict[str, Any]:
    return {
        "id": name,
        "names": {"ar": "مكتب", "en": name},
        "languages": ["ar"],
        "flags": ["minor", "sexual_violence"],
        "draw": draw,
        "leads": [_id(lead) for lead in leads],
    }


def _base() -> dict[str, Any]:
    lead = _reader("lead", roles=["lead", "reviewer"], takes=["minor", "sexual_violence"])
    others = [
        _reader("first", roles=["reviewer"], takes=["minor"]),
        _reader("second", roles=["reviewer"], takes=["minor"]),
        _reader("third", roles=["reviewer"], takes=[]),
    ]
    text = "أوافق"
    return {
        "directory.json": {
            "v": 1,
            "deployment": "amana-vectors",
            "version": 7,
            "desks": [
                _desk("drawing", draw=1, leads=["lead"]),
                _desk("general", draw=0, leads=[]),
            ],
            "custodians": {
                "k": 1,
                "members": [
                    _holder("custodian"),
                ],
            },
            "partners": [],
            "consent_texts": [
                {
                    "id": "c1.ar",
                    "language": "ar",
                    "text": text,
                    "sha256": sha256_hex(text.encode("utf-8")),
                }
            ],
            "drop_bits": 0,
            "ext": {},
        },
        "desks/drawing.json": {"v": 1, "desk": "drawing", "readers": [lead, *others]},
        "desks/general.json": {"v": 1, "desk": "general", "readers": [others[2]]},
        "people.json": {
            "v": 1,
            "people": [_person("custodian", "custodian"), _person("admin", "administrator")],
        },
    }


def _slug(targets: dict[str, str]) -> str | None:
    try:
        parse_directory({name: text.encode("utf-8") for name, text in targets.items() if text})
    except ProtocolError as refused:
        return refused.slug
    return None


def _directories(base: dict[str, str]) -> Iterator[dict[str, Any]]:
    def vector(says: str, target: str, change: Callable[[Any], object]) -> dict[str, Any]:
        document = json.loads(base[target])
        change(document)
        targets = {target: canonical(document).decode("utf-8")}
        return {"says": says, "targets": targets, "slug": _slug(base | targets)}

    yield {"says": "the base", "targets": {}, "slug": _slug(base)}
    yield vector("unknown fields under ext", "people.json", lambda d: d.update(ext={"later": 1}))
    yield vector("unknown field elsewhere", "people.json", lambda d: d.update(later=1))
    yield vector("unknown version", "directory.json", lambda d: d.update(v=2))
    yield vector("an administrator reads", "people.json", lambda d: _add_role(d, "lead"))
    yield vector("one key for two people", "people.json", _share_key)
    yield vector("a lead who is no reader", "directory.json", _foreign_lead)
    yield vector("a lead whom the desk lacks", "directory.json", _lead_of_none)
    yield vector("a wrong hash of a text", "directory.json", _other_text)
    yield vector("more custodians than there are", "directory.json", _two_of_one)
    yield vector("a swapped signature", "desks/general.json", _swap_signature)
    spaced = json.dumps(json.loads(base["people.json"]))
    targets = {"people.json": spaced}
    yield {"says": "not canonical", "targets": targets, "slug": _slug(base | targets)}
    targets = {"desks/general.json": ""}
    yield {"says": "a part is missing", "targets": targets, "slug": _slug(base | targets)}
    targets = {"desks/more.json": base["desks/general.json"]}
    yield {"says": "a part too many", "targets": targets, "slug": _slug(base | targets)}


def _add_role(people: Any, name: str) -> None:
    people["people"].append({**_person(name, "administrator")})


def _share_key(people: Any) -> None:
    people["people"][0]["signing_key"] = people["people"][1]["signing_key"]


def _foreign_lead(directory: Any) -> None:
    directory["desks"][1]["leads"] = [_id("lead")]


def _lead_of_none(directory: Any) -> None:
    directory["desks"][0]["leads"] = []


def _other_text(directory: Any) -> None:
    directory["consent_texts"][0]["text"] = "لا أوافق"


def _two_of_one(directory: Any) -> None:
    directory["custodians"]["k"] = 2


def _swap_signature(desk: Any) -> None:
    other = _reader("first", roles=["reviewer"], takes=[])
    desk["readers"][0]["intake_key_sig"] = other["intake_key_sig"]


def _draws(base: dict[str, str]) -> Iterator[dict[str, Any]]:
    directory = parse_directory({name: text.encode("utf-8") for name, text in base.items()})
    for says, desk, flags, random in (
        ("the first of three is drawn", "drawing", [], [0]),
        ("the last of three is drawn", "drawing", ["urgent"], [2]),
        ("one of two who take minors", "drawing", ["minor"], [1]),
        ("only the lead may", "drawing", ["minor", "sexual_violence"], []),
        ("all of a desk that does not draw", "general", ["names_others"], []),
        ("nobody may", "general", ["sexual_violence"], []),
    ):
        outcomes = iter(random)
        policy = _Policy(desk, tuple(flags))
        try:
            chosen = [one.id for one in readers(directory, policy, lambda _: next(outcomes))]  # noqa: B023
        except NoReader:
            chosen = None
        yield {
            "says": says,
            "desk": desk,
            "flags": flags,
            "random": random,
            "chosen": chosen,
            "eligible": sorted(eligible(directory, policy)),
        }


def _intake_keys() -> Iterator[dict[str, Any]]:
    for name in ("lead", "first"):
        entry = _reader(name, roles=[], takes=[])
        public = {k: entry[k] for k in ("id", "signing_key", "intake_key", "intake_key_sig")}
        yield {
            "signing_seed": _seed(name, "signing").hex(),
            "public": public,
            "fingerprint": fingerprint(public),
        }


def main() -> None:
    base = {name: canonical(document).decode("utf-8") for name, document in _base().items()}
    vectors = {
        "note": "docs/protocol.md §9; `targets` replace those of `base`, an empty text removes one",
        "base": base,
        "directories": list(_directories(base)),
        "readers": list(_draws(base)),
        "intake_keys": list(_intake_keys()),
    }
    OUT.write_text(json.dumps(vectors, ensure_ascii=False, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
