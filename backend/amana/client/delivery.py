# SPDX-License-Identifier: AGPL-3.0-or-later
"""How a sealed testimony gets to the server over a broken network: announced, paid for, uploaded, receipted.

Every step may be repeated, so it does not matter where the last attempt ended.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, BinaryIO, Final

from amana.client.errors import ClientError, NetworkFailed, NotVerified
from amana.client.log import try_for_proof
from amana.client.progress import Advance, Progress
from amana.client.statefile import Sending, StateFile
from amana.client.transport import Answer, Patience, Transport, check_path
from amana.protocol.admission import Notice, pay
from amana.protocol.checkpoint import log_key
from amana.protocol.errors import ProtocolError
from amana.protocol.receipt import verify_receipt
from amana.protocol.submission import CheckedSubmission, DeclaredObject
from amana.protocol.tlogproof import TlogProof

BLOCK_BYTES: Final = 128 * 1024
ROUNDS: Final = 4
"""How often the whole is begun anew: an upload expired, or a server lost one."""
DAMAGES: Final = 3
"""How often an object is sent again that arrived other than it was sent."""
POLLS: Final = 900
POLL_SECONDS: Final = 2.0
_TUS: Final = {"Tus-Resumable": "1.0.0"}


class _Gone(Exception):
    """An address is no longer known: announcing the same bytes again gives a receipt or new addresses."""


def check_receipt(document: object, sending: Sending) -> dict[str, Any]:
    """Return a receipt if the pinned custody log signed it for exactly what was sent."""
    try:
        receipt = verify_receipt(document, sending.custody_log_key)
        sent = sending.checked().event(receipt.received_on)
    except ProtocolError as error:
        raise NotVerified(f"The receipt does not verify. {error.title}", slug=error.slug) from None
    if receipt.deployment != sending.deployment or receipt.event != sent:
        raise NotVerified(
            "The receipt is for something else than was sent.", slug="receipt-differs"
        )
    assert isinstance(document, dict)  # noqa: S101
    return document


class Delivery:
    """One attempt to bring a sending to its end; owns `sending` and keeps its file up to date."""

    def __init__(
        self,
        state: StateFile,
        sending: Sending,
        transport: Transport,
        *,
        patience: Patience,
        progress: Progress,
    ) -> None:
        self.sending = sending
        self._state = state
        self._transport = transport
        self._patience = patience
        self._progress = progress
        self._checked: CheckedSubmission = sending.checked()
        self._damages = 0
        self.attempted = False
        """Whether the server may have seen anything of this testimony."""
        self._arrived: dict[int, int] = {}

    @property
    def arrived_bytes(self) -> int:
        """How many bytes of the objects the server is known to hold."""
        return sum(self._arrived.values())

    @property
    def total_bytes(self) -> int:
        return self._checked.declared_bytes

    def run(self) -> dict[str, Any]:
        """Deliver, and return the receipt once it was verified; the caller then removes the state.

        The state is saved before anything is sent. Raises NetworkFailed, Refused or NotVerified.
        """
        self._save()
        for _ in range(ROUNDS):
            try:
                receipt = self._round()
            except _Gone:
                self._save(uploads={}, completion=None)
                continue
            if receipt is not None:
                return check_receipt(receipt, self.sending)
        raise NetworkFailed(
            "The server loses again and again what it was sent.", slug="uploads-lost"
        )

    def proof_of(self, receipt: dict[str, Any]) -> TlogProof | None:
        """Return the proof that the custody log holds a receipt, if it is there within a second or two."""
        log = log_key(self.sending.custody_log_origin, self.sending.custody_log_key)
        leaf = verify_receipt(receipt, self.sending.custody_log_key).leaf
        return try_for_proof(self._transport, log, leaf)

    def _round(self) -> Any:
        if not self.sending.announced:
            receipt = self._announce()
            if receipt is not None:
                return receipt
        with self._progress.step("Sending", self.total_bytes) as advance:
            for item in self._checked.objects:
                self._upload(item, advance)
        with self._progress.step("Waiting for the receipt"):
            return self._complete()

    def _save(self, **changes: Any) -> None:
        self.sending = replace(self.sending, **changes)
        self._state.save(self.sending)

    # Announcing

    def _announce(self) -> Any:
        """Post the submission at the price asked; returns the receipt when nothing is left to upload."""
        if self.sending.admission is None:
            answer = self._persist("GET", "/v1/admission")
            if answer.status != 200:
                raise answer.refusal()
            self._pay(answer.document(), answer)
        self.attempted = True
        for _ in range(ROUNDS):
            answer = self._persist("POST", "/v1/testimonies", files=self._parts())
            if answer.status in {200, 201}:
                return self._announced(answer.document())
            if answer.status != 402:
                raise answer.refusal()
            self._pay(answer.document().get("notice"), answer)
        raise NetworkFailed("The price of admission keeps rising.", slug="admission-price")

    def _parts(self) -> dict[str, bytes]:
        parts = {**vars(self.sending.submission), "admission": self.sending.admission or b""}
        return {name: data for name, data in parts.items() if data or name != "account"}

    def _pay(self, document: object, answer: Answer) -> None:
        try:
            notice = Notice.parse(document)
        except ProtocolError:
            raise answer.refusal() from None
        with self._progress.step("Paying the price of admission"):
            proof = pay(notice, self.sending.submission.digest(), self.total_bytes)
        self._save(admission=proof.to_bytes())

    def _announced(self, document: dict[str, Any]) -> Any:
        receipt = document.get("receipt")
        if receipt is not None:
            return receipt
        try:
            uploads = {int(one["i"]): check_path(one["location"]) for one in document["uploads"]}
            completion = check_path(document["completion"])
        except (KeyError, TypeError, ValueError):
            uploads, completion = {}, ""
        if set(uploads) != {item.i for item in self._checked.objects} or not completion:
            raise NotVerified("The server's answer is not what was asked for.", slug="bad-answer")
        self._save(uploads=uploads, completion=completion)
        return None

    # Uploading (tus 1.0.0)

    def _upload(self, item: DeclaredObject, advance: Advance) -> None:
        """Send an object from wherever the server has it, for as long as that number grows."""
        failures, furthest, shown = 0, -1, 0
        offset: int | None = None

        def show(done: int) -> None:
            nonlocal shown
            advance(max(0, done - shown))
            shown = max(shown, done)

        while True:
            try:
                if offset is None:
                    offset = self._offset(item)
                show(offset)
                self._arrived[item.i] = offset
                if offset > furthest:
                    failures, furthest = 0, offset
                if offset == item.size:
                    return
                offset = self._append(item, offset, show)
            except NetworkFailed as failure:
                offset = None
                failures += 1
                self._patience.wait(failures, failure)

    def _offset(self, item: DeclaredObject) -> int:
        answer = self._transport.ask("HEAD", self.sending.uploads[item.i], headers=_TUS)
        if answer.status in {404, 410}:
            raise _Gone
        if answer.status != 200:
            raise answer.busy() if answer.status == 409 else answer.refusal()
        return _told_offset(answer, item)

    def _append(self, item: DeclaredObject, offset: int, show: Callable[[int], None]) -> int:
        """Send the rest of an object and return the offset after it."""
        headers = {
            **_TUS,
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(item.size - offset),
            "Upload-Offset": str(offset),
        }
        with self._state.sealed_path(item.i).open("rb") as file:
            file.seek(offset)
            answer = self._transport.ask(
                "PATCH", self.sending.uploads[item.i], headers=headers, content=_blocks(file, show)
            )
        match answer.status:
            case 204:
                return _told_offset(answer, item)
            case 404 | 410:
                raise _Gone
            case 422:
                raise self._damaged(answer)
            case 400 | 409 | 460:
                # Cut, overtaken, or of another opinion about the offset: ask anew.
                raise answer.busy()
            case _:
                raise answer.refusal()

    def _damaged(self, answer: Answer) -> ClientError:
        """Say what follows from an object that did not arrive as it was sent: once more, or the end."""
        self._damages += 1
        return answer.busy() if self._damages <= DAMAGES else answer.refusal()

    # Completing

    def _complete(self) -> Any:
        """Ask for the receipt until everything is verified; None when something has to be sent again."""
        for _ in range(POLLS):
            answer = self._patience.persist(self._ask_completion)
            match answer.status:
                case 200:
                    return answer.document().get("receipt")
                case 202:
                    time.sleep(answer.retry_after_seconds or POLL_SECONDS)
                case 404 | 410:
                    raise _Gone
                case 409:
                    return None
                case 422:
                    if isinstance(refused := self._damaged(answer), NetworkFailed):
                        return None
                    raise refused
                case _:
                    raise answer.refusal()
        raise NetworkFailed("The server still verifies what it was sent.", slug="still-verifying")

    def _ask_completion(self) -> Answer:
        answer = self._transport.ask("POST", self.sending.completion or "", headers=_TUS)
        if answer.status == 409 and answer.slug != "case-incomplete":
            raise answer.busy()
        return answer

    def _persist(self, method: str, path: str, **options: Any) -> Answer:
        return self._patience.persist(lambda: self._transport.ask(method, path, **options))


def _told_offset(answer: Answer, item: DeclaredObject) -> int:
    text = answer.headers.get("upload-offset", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= item.size):
        raise NotVerified("The server's answer is not what was asked for.", slug="bad-answer")
    return int(text)


def _blocks(file: BinaryIO, show: Callable[[int], None]) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block
        show(file.tell())
