# SPDX-License-Identifier: AGPL-3.0-or-later
"""A person of staff at the desk's server: signed in by their own key, with tokens that nobody else keeps."""

import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from amana.client.errors import NotVerified
from amana.client.keyfile import PersonKeys
from amana.client.transport import Answer, Patience, Transport
from amana.protocol.assertion import sign_assertion

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]{1,4096}")
_JSON: Final = {"Content-Type": "application/json"}


class DeskClient:
    """Asks as one person. Owns an access token and signs in anew when it is over."""

    def __init__(
        self,
        transport: Transport,
        keys: PersonKeys,
        deployment: str,
        *,
        patience: Patience | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.transport = transport
        self.keys = keys
        self.deployment = deployment
        self.patience = patience or Patience()
        self.clock = clock
        self._token = ""
        self._renew_at = 0.0

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        document: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Answer:
        """Send one request as this person and return the answer; raises NetworkFailed.

        `document` travels as JSON; `options` are those of Transport.ask.
        """
        if document is not None:
            headers = {**(headers or {}), **_JSON}
            options["content"] = json.dumps(document).encode("utf-8")
        answer = self._ask_signed_in(method, path, headers or {}, options)
        if answer.status == 401:
            # The token may be over sooner than this clock says; once, not in circles.
            self._renew_at = 0.0
            answer = self._ask_signed_in(method, path, headers or {}, options)
        return answer

    def get(self, path: str, **options: Any) -> Answer:
        """Return what is at `path`; tries again while the network fails, raises Refused."""
        answer = self.patience.persist(lambda: self.ask("GET", path, **options))
        if answer.status != 200:
            raise answer.refusal()
        return answer

    def sign_in(self) -> None:
        """Exchange a fresh assertion for an access token; raises Refused."""
        assertion = sign_assertion(self.keys.signing, self.keys.id, self.deployment, self.clock())
        answer = self.transport.ask(
            "POST",
            "/v1/sessions",
            headers=_JSON,
            content=json.dumps({"assertion": assertion}).encode("ascii"),
        )
        if answer.status != 201:
            raise answer.refusal()
        document = answer.document()
        token, seconds = document.get("access_token"), document.get("expires_in")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token) or type(seconds) is not int:
            raise NotVerified("The server's answer is not what was asked for.", slug="bad-answer")
        self._token = token
        self._renew_at = time.monotonic() + seconds * 0.9

    def _ask_signed_in(
        self, method: str, path: str, headers: Mapping[str, str], options: Mapping[str, Any]
    ) -> Answer:
        if time.monotonic() >= self._renew_at:
            self.sign_in()
        signed = {**headers, "Authorization": f"Bearer {self._token}"}
        return self.transport.ask(method, path, headers=signed, **options)
