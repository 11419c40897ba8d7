"""The committed vectors of the vault still hold, and agree with a second reading of the specification made here."""

import base64
import hashlib
import json
from functools import reduce
from itertools import combinations
from pathlib import Path
from typing import Any

from amana.protocol.encoding import unb64
from amana.protocol.release import read_reason
from amana.protocol.sealing import Identity, Kind, seal
from amana.protocol.vault import combine, open_pieces, open_released, open_share
from scripts.make_vectors_vault import TARGET, text

VECTORS: dict[str, Any] = json.loads(Path(TARGET).read_text("utf-8"))
HOLDER = Identity.generate()


def test_the_same_inputs_still_make_the_same_bytes() -> None:
    assert Path(TARGET).read_text("utf-8") == text()


# A second reading, with nothing of the package but the key pair of a seed.


def short_name(tag: str, content: bytes) -> str:
    digest = hashlib.sha256(tag.encode() + b"\0" + content).digest()
    return base64.b32encode(digest[:20]).decode().lower()


def set_name(ids: list[str]) -> str:
    content = json.dumps(sorted(ids), separators=(",", ":")).encode()
    return short_name("amana-vault-subset-v1", content)


def joined(texts: list[str]) -> str:
    numbers = [int.from_bytes(base64.b64decode(one), "big") for one in texts]
    total = reduce(lambda a, b: a ^ b, numbers)
    return base64.b64encode(total.to_bytes(32, "big")).decode()


def test_names_and_shares_as_the_specification_says() -> None:
    given = VECTORS
    public = Identity.from_seed(unb64(given["seed"], 32)).recipient.raw
    assert short_name("amana-vault-v1", public) == given["key"]
    sets = [list(one) for one in combinations(given["custodians"], given["k"])]
    assert given["subset_ids"] == {",".join(one): set_name(one) for one in sets}
    assert [(one["subset"], one["custodian"]) for one in given["shares"]] == [
        (subset, custodian) for subset in sets for custodian in subset
    ]
    for subset in sets:
        shares = [one["share"] for one in given["shares"] if one["subset"] == subset]
        assert joined(shares) == given["seed"]
    for one in given["shares"]:
        where = f"{one['custodian']}\n{set_name(one['subset'])}\n{one['share']}\n"
        assert one["text"] == f"amana-vault-share-v1\n{given['case']}\nidentity\n{where}"
        to = f"{given['request']}\n{given['case']}\nidentity\n{given['reader']}\n"
        assert one["released"] == f"amana-vault-release-v1\n{to}{where}"


def test_pieces_as_the_specification_says() -> None:
    given, anew = VECTORS, VECTORS["resharing"]
    there = [list(one) for one in combinations(given["custodians"], 2)]
    wanted = [list(one) for one in combinations(anew["custodians"], 2)]
    assert anew["missing"] == [one for one in wanted if one not in there]
    assert anew["superfluous"] == [one for one in there if one not in wanted]
    for subset in anew["missing"]:
        of_set = [one for one in anew["pieces"] if one["subset"] == subset]
        assert len(of_set) == 4
        assert joined([one["piece"] for one in of_set]) == given["seed"]
    for one in anew["pieces"]:
        lines = [
            "amana-vault-piece-v1", given["case"], "identity", one["maker"], set_name(anew["source"]),
            one["custodian"], set_name(one["subset"]), one["piece"], "",
        ]  # fmt: skip
        assert one["text"] == "\n".join(lines)


def test_the_package_opens_what_the_vectors_seal() -> None:
    given, anew = VECTORS, VECTORS["resharing"]

    def sealed(content: str) -> bytes:
        return seal(content.encode(), HOLDER.recipient, Kind.SHARE)

    labels: dict[str, Any] = {"case": given["case"], "vault": "identity"}
    opened: dict[tuple[str, ...], list[bytes]] = {}
    for one in given["shares"]:
        subset = tuple(one["subset"])
        mine = {**labels, "custodian": one["custodian"], "subset": subset}
        share = open_share(sealed(one["text"]), HOLDER, **mine)
        released = open_released(
            sealed(one["released"]),
            HOLDER,
            request=given["request"],
            to=given["reader"],
            **mine,
        )
        assert share == released
        opened.setdefault(subset, []).append(share)
    for subset in map(tuple, anew["missing"]):
        for custodian in subset:
            pieces = {
                one["maker"]: (sealed(one["text"]), HOLDER)
                for one in anew["pieces"]
                if (tuple(one["subset"]), one["custodian"]) == (subset, custodian)
            }
            share = open_pieces(pieces, **labels, custodian=custodian, subset=subset)
            opened.setdefault(subset, []).append(share)
    assert len(opened) == 5
    for shares in opened.values():
        assert combine(shares, given["key"]).seed == unb64(given["seed"], 32)


def test_a_reason_and_its_hash() -> None:
    given = VECTORS["reason"]
    content = given["bytes"].encode()
    digest = hashlib.sha256(b"amana-release-reason-v1\0" + content)
    assert given["sha256"] == digest.hexdigest()
    words = read_reason(content, case=VECTORS["case"], request=VECTORS["request"])
    assert words == json.loads(content)["reason"]
