# SPDX-License-Identifier: AGPL-3.0-or-later
"""What changed between two versions of the directory, in words: nothing that differs goes unsaid."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tuf.api.metadata import Root, Targets

from amana.client.directory import OFFICERS_SIGN, check_root, key_of
from amana.client.officer import Version, describe, printable, public_part, without
from amana.protocol.directory import DIRECTORY_TARGET, LIMIT_BYTES, fingerprint
from amana.protocol.encoding import parse_canonical, sha256_hex

LONGEST: Final = 200
_KEYS: Final = ("signing_key", "intake_key", "intake_key_sig")


Facts = dict[str, dict[str, str]]
"""For each thing or person, what is said of it: attribute and value."""


def facts(files: Mapping[str, bytes], targets: Targets, root: Root | None) -> Facts:
    """Return everything that a version says; two versions with the same facts are the same."""
    description = describe(files)
    found: Facts = {
        "the directory": {
            "version": str(targets.version),
            "valid until": f"{targets.expires:%Y-%m-%d %H:%M}",
        }
    }
    for subject, fields in _entries(description):
        found[subject] = {name: _words(value) for name, value in sorted(fields.items())}
    for name, content in files.items():
        if name != DIRECTORY_TARGET and (
            ext := parse_canonical(content, limit=LIMIT_BYTES).get("ext")
        ):
            found[f"the part {name}"] = {"ext": _words(ext)}
    return found if root is None else found | _root_facts(root)


def compare(before: Version, after: Version) -> list[str]:
    """Say what changed between two versions; roots are compared where both are known."""
    both = before.root is not None and after.root is not None
    old, new = (
        facts(one.files, one.targets.signed, one.root.signed if one.root and both else None)
        for one in (before, after)
    )
    return changes(old, new)


def changes(before: Facts, after: Facts) -> list[str]:
    """Say in words what was added, removed and changed."""
    lines = [f"added: {_one(name, after[name])}" for name in after if name not in before]
    lines += [f"removed: {_one(name, before[name])}" for name in before if name not in after]
    for name in after:
        old, new = before.get(name, after[name]), after[name]
        for attribute in sorted({*old, *new}):
            was, now = old.get(attribute, "nothing"), new.get(attribute, "nothing")
            if was != now:
                lines.append(f"changed: {name}: {attribute}: {was} → {now}")
    return [printable(line) for line in lines]


def _one(name: str, attributes: Mapping[str, str]) -> str:
    said = "; ".join(f"{attribute}: {value}" for attribute, value in attributes.items())
    return f"{name} ({said})" if said else name


def _entries(description: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    rest = dict(description)
    desks, people, partners = rest.pop("desks"), rest.pop("people"), rest.pop("partners")
    custodians = dict(rest.pop("custodians"))
    members = custodians.pop("members")
    for text in rest.pop("consent_texts"):
        yield f"consent text {text['id']}", without(text, "id")
    yield "custodians", {**custodians, "count": len(members)}
    yield "all desks", rest
    for desk in desks:
        yield f"desk {desk['id']}", without(desk, "id", "readers")
        for one in desk["readers"]:
            yield f"reader {one['id']} at desk {desk['id']}", _keyed(one, one)
    for role, holders in (("custodian", members), ("partner", partners)):
        for one in holders:
            # They stand among the people too, whose fingerprint speaks for this key.
            yield f"{role} {one['id']}", without(one, "id", *_KEYS)
    for one in people:
        yield f"person {one['id']}", _keyed(one, public_part(one, [*members, *partners]))


def _keyed(one: Mapping[str, Any], public: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of a person: keys are too long to be read, so their fingerprint stands for them."""
    shown = {name: public[name] for name in ("id", *_KEYS) if name in public}
    return {
        **without(one, "id", *_KEYS),
        "signing key": public["signing_key"],
        "fingerprint": fingerprint(shown),
    }


def _words(value: object) -> str:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value) or "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= LONGEST:
        return text
    return f"{len(text)} characters with SHA-256 {sha256_hex(text.encode('utf-8'))}"


def _root_facts(root: Root) -> Facts:
    found: Facts = {
        "the root": {"version": str(root.version), "valid until": f"{root.expires:%Y-%m-%d %H:%M}"}
    }
    pinned = check_root(root).document
    for name, value in without(pinned, "cosigners").items():
        found["the root"][f"pinned {name}"] = _words(value)
    for one in pinned["cosigners"]:
        said = without(one, "key").items()
        found[f"cosigner {one['key']}"] = {name: _words(value) for name, value in said}
    for name, role in sorted(root.roles.items()):
        whose = "officer" if name in OFFICERS_SIGN else "server key"
        found["the root"][f"{name} needs"] = f"{role.threshold} of {len(role.keyids)} signatures"
        for keyid in role.keyids:
            key = key_of(root.keys[keyid])
            signs = found.setdefault(f"{whose} {key}", {}).get("signs")
            found[f"{whose} {key}"]["signs"] = f"{signs}, {name}" if signs else name
    return found
