# SPDX-License-Identifier: AGPL-3.0-or-later
"""Check the custody of a case offline, from the root file alone: what each event says, who signed it, what proves it.

Each check stands for itself and names what does not hold.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from amana.client.custody import LOGGED, NOBODY_SIGNS, VERIFIED, facts_of
from amana.client.directory import custody_logs, fetch_version, read_root
from amana.client.errors import ClientError, NotVerified
from amana.client.evidence import getter_of, versions_of
from amana.client.grounds import ungrounded
from amana.client.verify import Check, checked, unchecked
from amana.protocol.custody import LIMIT_BYTES, SLUG, Custody, parse_custody
from amana.protocol.directory import Directory, RootPins
from amana.protocol.encoding import canonical, parse_strict
from amana.protocol.errors import ProtocolError
from amana.protocol.receipt import leaf
from amana.protocol.tlogproof import TlogProof

NOT_PROVEN: Final = (
    ("events-shown", "that the service showed every event: it can keep one back, but not change one"),
    ("what-was-said", "what the witness stated, or what staff wrote in an act: the events hold hashes of it"),
    ("before-the-log", "when something happened, closer than the clock of whoever signed it and its place in the log"),
    ("content", "what the testimony says, or that it is true: nothing here opens it"),
    ("standing", "that somebody of staff was not suspended when they signed; the directory lists who could"),
)  # fmt: skip
"""What no custody can prove: a name for each, and words; printed with every table."""

_NAMED_AT_MOST: Final = 8
_WATCHERS: Final = frozenset({"auditor", "lead", "reviewer"})


def read_custody(content: bytes) -> Custody:
    """Read what `reviewer custody --json` printed; raises ProtocolError, which names the places that are wrong."""
    if len(content) > LIMIT_BYTES:
        raise ProtocolError(SLUG, f"It is larger than {LIMIT_BYTES} bytes.")
    return parse_custody(parse_strict(content))


def check_custody(content: bytes | Custody, root: bytes) -> list[Check]:
    """Check a custody, as bytes or as read before, from the root file alone."""
    return list(_Verifier(content, root).checks())


class _Verifier:
    """Goes through one document; what an earlier check found, later ones build on."""

    def __init__(self, content: bytes | Custody, root: bytes) -> None:
        self._content = content
        self._root = root
        self._found: Custody | None = None
        self._pins: RootPins | None = None
        self._directories: dict[int, Directory] = {}
        self._logs: dict[str, RootPins] = {}
        self._is_logged = False

    def checks(self) -> Iterator[Check]:
        steps: tuple[tuple[str, Callable[[], str]], ...] = (
            ("root", self._check_root),
            ("form", self._check_form),
            ("parts", self._check_parts),
            ("directory", self._check_directory),
            ("maker", self._check_maker),
            ("custody", self._check_acts),
            ("shown", self._check_shown),
            ("log", self._check_log),
            ("order", self._check_order),
        )
        return checked(steps)

    @property
    def found(self) -> Custody:
        if self._found is None:
            raise unchecked("the document is not in its form")
        return self._found

    def _pinned(self) -> RootPins:
        if self._pins is None:
            raise unchecked("the root file does not verify")
        return self._pins

    def _need_directory(self) -> None:
        if not self._logs:
            raise unchecked("the directory does not verify")

    def _directory(self, version: int) -> Directory:
        if version not in self._directories:
            raise NotVerified(f"Version {version} of the directory is missing.", slug="not-listed")
        return self._directories[version]

    def _check_root(self) -> str:
        self._pins = read_root(self._root)
        return f"signed by its officers, for {self._pins.deployment}"

    def _check_form(self) -> str:
        content = self._content
        self._found = content if isinstance(content, Custody) else read_custody(content)
        return f"a custody of version 1, of the case {self._found.case}"

    def _check_parts(self) -> str:
        if altered := self.found.altered():
            raise NotVerified(_listed(f"{one} was altered, or its hash" for one in altered))
        return f"{len(self.found.document['parts'])} parts, none altered, missing or too many"

    def _check_directory(self) -> str:
        self._pinned()
        files = {name: text.encode("utf-8") for name, text in self.found.files.items()}
        get = getter_of(files)
        for version in versions_of(files):
            self._directories[version] = fetch_version(get, self._root, version).directory
        self._logs = {one.custody_log.name: one for one in custody_logs(get, self._root)}
        versions = ", ".join(map(str, self._directories))
        return f"versions {versions}, signed by the officers"

    def _check_maker(self) -> str:
        found = self.found
        self._need_directory()
        maker = self._directory(found.directory).person(found.maker)
        if maker is None or not maker.roles & _WATCHERS:
            raise NotVerified("maker: whoever fetched it was neither a reader nor an auditor.")
        try:
            found.verify(maker.signing_key)
        except ProtocolError:
            raise NotVerified(
                "v, deployment, case, maker, directory, made_on, parts or sig was altered."
            ) from None
        if found.deployment != self._pinned().deployment:
            raise NotVerified("deployment: it is of another installation.")
        return f"fetched and signed by {found.maker} on {found.made_on}"

    def _each(self, check: Callable[[Mapping[str, Any]], str | None]) -> None:
        """Collect what is wrong with events, each under its name."""
        faults = []
        for number, one in enumerate(self.found.events, start=1):
            try:
                fault = check(one)
            except (ProtocolError, ClientError) as error:
                fault = error.title
            except (KeyError, TypeError, AttributeError, ValueError):
                fault = "it is not in its form"
            if fault is not None:
                faults.append(f"events/{number}: {fault}")
        if faults:
            raise NotVerified(_listed(faults))

    def _check_acts(self) -> str:
        deployment, case, nonces = self._pinned().deployment, self.found.case, set()
        self._need_directory()

        def check(one: Mapping[str, Any]) -> str | None:
            event = one["event"]
            if event["case"] != case or event.get("deployment", deployment) != deployment:
                return "it is about another case"
            if event["kind"] != "action":
                return None
            action = event["action"]
            if (action["case"], action["deployment"]) != (case, deployment):
                return "the act is about another case"
            if action["nonce"] in nonces:
                return "the act stands there twice"
            nonces.add(action["nonce"])
            signature = facts_of(event, self._directory).signature
            return None if signature == VERIFIED else f"the signature does not hold ({signature})"

        self._each(check)
        return (
            f"{len(self.found.events)} events, {len(nonces)} of them acts of staff with a signature"
            " that verifies under the directory of its time"
        )

    def _check_shown(self) -> str:
        def check(one: Mapping[str, Any]) -> str | None:
            facts = vars(facts_of(one["event"], self._directory))
            wrong = [name for name, value in facts.items() if one[name] != value]
            commitment = leaf(canonical(one["event"]), bytes.fromhex(one["key"])).hex()
            if one["leaf"] != commitment:
                wrong.append("leaf, key or event")
            proof = one["tlog_proof"]
            if one["place"] != (None if proof is None else _proof_of(one).index):
                wrong.append("place")
            if (one["proof"] == LOGGED) != (proof is not None):
                wrong.append("proof")
            return f"{', '.join(wrong)}: not what the event says" if wrong else None

        self._need_directory()
        self._each(check)
        return "what, who, when and under which authority are what the events say"

    def _check_log(self) -> str:
        self._need_directory()
        sizes: set[int] = set()
        cosigned: set[str] = set()

        def check(one: Mapping[str, Any]) -> str | None:
            if one["tlog_proof"] is None:
                return f"no proof that the log holds it ({one['proof']}); fetch the custody again"
            proof = _proof_of(one)
            pins = self._logs.get(proof.origin)
            if pins is None:
                return "proven by another log than the roots pin"
            commitment = leaf(canonical(one["event"]), bytes.fromhex(one["key"]))
            signed = proof.verify(commitment, pins.custody_log, pins.cosigners, pins.quorum)
            sizes.add(signed.checkpoint.size)
            cosigned.update(signed.cosigned)
            return None

        self._each(check)
        self._is_logged = True
        by = f"{len(cosigned)} cosigners" if cosigned else "no cosigner, as the root asks for none"
        return (
            f"every event stands in the public log of {max(sizes)} events, signed by it and by {by}"
        )

    def _check_order(self) -> str:
        if not self._is_logged:
            raise unchecked("not every event is proven to stand in the log")
        order = {name: place for place, name in enumerate(self._logs)}
        last, before = (-1, -1), set[str]()

        def check(one: Mapping[str, Any]) -> str | None:
            nonlocal last
            proof, what = _proof_of(one), facts_of(one["event"], self._directory).what
            here = (order[proof.origin], proof.index)
            if here <= last:
                return "not in the order of the log"
            fault, last = ungrounded(what, before), here
            before.add(what)
            return fault

        self._each(check)
        return (
            "in the order of the log, the arrival first; nothing is there whose ground is missing"
        )


def _proof_of(one: Mapping[str, Any]) -> TlogProof:
    return TlogProof.parse(one["tlog_proof"].encode("utf-8"))


def _listed(faults: Any) -> str:
    found = list(faults)
    more = f" and {len(found) - _NAMED_AT_MOST} more" if len(found) > _NAMED_AT_MOST else ""
    return "; ".join(found[:_NAMED_AT_MOST]) + more


def is_doubtful(one: Mapping[str, Any]) -> bool:
    """Tell whether an event has a signature or proof that does not hold; one that waits for its proof is not doubtful."""
    return one["signature"] not in {VERIFIED, NOBODY_SIGNS} or one["proof"] not in {
        LOGGED,
        "waiting",
    }
