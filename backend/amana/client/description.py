# SPDX-License-Identifier: AGPL-3.0-or-later
"""The description of a first directory, from the public parts that its people gave to the officers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from amana.client.errors import NotVerified, Usage
from amana.client.keyfile import WITH_INTAKE_KEY
from amana.client.officer import read_json
from amana.client.verify import read_limited
from amana.protocol.directory import fingerprint, verify_intake_key
from amana.protocol.encoding import check_id, sha256_hex
from amana.protocol.errors import ProtocolError
from amana.protocol.policy import FLAGS, RESTRICTING_FLAGS
from amana.protocol.signing import public_key

TEXT_LIMIT_BYTES: Final = 64 * 1024
_INTAKE: Final = ("intake_key", "intake_key_sig")


@dataclass
class Desk:
    """A desk as the officers name it: languages, names by language, and the public parts of its readers."""

    languages: list[str]
    names: dict[str, str] = field(default_factory=dict)
    leads: list[Mapping[str, str]] = field(default_factory=list)
    reviewers: list[Mapping[str, str]] = field(default_factory=list)


def read_public(path: Path, role: str) -> Mapping[str, str]:
    """Return the public part in a file that `init --public` or `init --json` wrote for a role.

    Its fingerprint and its owner's signature are checked. Raises Usage, and NotVerified.
    """
    document = read_json(path)
    try:
        public: Mapping[str, str] = document["public"]
        names = {"id", "signing_key", *(_INTAKE if role in WITH_INTAKE_KEY else ())}
        if document["role"] != role or set(public) != names:
            raise KeyError
        check_id(public["id"])
        public_key(public["signing_key"])
        if role in WITH_INTAKE_KEY:
            verify_intake_key(public["signing_key"], public)
    except ProtocolError as error:
        raise NotVerified(f"{path}: {error.title}", slug=error.slug) from None
    except (KeyError, TypeError, AttributeError):
        raise Usage(
            f"{path} is not what 'init --public' wrote for a {role}.", slug="bad-public-file"
        ) from None
    if document.get("fingerprint") != fingerprint(public):
        raise NotVerified(f"{path}: The fingerprint is of other keys.", slug="fingerprint-differs")
    return public


def first_description(
    deployment: str,
    desks: Mapping[str, Desk],
    others: Mapping[str, Iterable[Mapping[str, str]]],
    purposes: Mapping[str, Sequence[str]],
    takes: Mapping[str, Sequence[str]],
    k: int,
    texts: Mapping[str, Path],
) -> dict[str, Any]:
    """Return a description as `propose` takes it.

    `others` are public parts by role, `purposes` and `takes` go by id, `texts` are consent texts by language.
    Raises Usage.
    """
    people = [(role, one) for role, listed in others.items() for one in listed]
    known = {one["id"] for desk in desks.values() for one in (*desk.leads, *desk.reviewers)}
    if unknown := set(takes) - known:
        raise Usage(f"--takes names no reader: {', '.join(unknown)}.", slug="unknown-person")
    return {
        "deployment": deployment,
        "desks": [_desk(name, desk, takes) for name, desk in desks.items()],
        "custodians": {
            "k": k,
            "members": [_holder(one) for role, one in people if role == "custodian"],
        },
        "partners": [
            {**_holder(one), "purposes": sorted(purposes.get(one["id"], []))}
            for role, one in people
            if role == "partner"
        ],
        "consent_texts": [_text(language, path) for language, path in texts.items()],
        "drop_bits": 0,
        "people": [
            {"id": one["id"], "roles": [role], "signing_key": one["signing_key"]}
            for role, one in people
        ],
    }


def _desk(name: str, desk: Desk, takes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    readers = [
        {**one, "roles": roles, "takes": sorted(takes.get(one["id"], []))}
        for roles, listed in ((["lead", "reviewer"], desk.leads), (["reviewer"], desk.reviewers))
        for one in listed
    ]
    taken = {flag for one in readers for flag in one["takes"]}
    return {
        "id": name,
        "names": desk.names or {"en": name},
        "languages": desk.languages,
        # What nobody takes would only let a witness's sending fail.
        "flags": [one for one in FLAGS if one in taken or one not in RESTRICTING_FLAGS],
        "draw": 0,
        "leads": [one["id"] for one in desk.leads],
        "readers": readers,
    }


def _holder(public: Mapping[str, str]) -> dict[str, str]:
    return {name: public[name] for name in ("id", *_INTAKE)}


def _text(language: str, path: Path) -> dict[str, str]:
    content = read_limited(path, TEXT_LIMIT_BYTES)
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise Usage(f"{path} holds no text in UTF-8.", slug="text-invalid")
    return {
        "id": f"first.{language}".lower(),
        "language": language,
        "text": text,
        "sha256": sha256_hex(text.encode("utf-8")),
    }
