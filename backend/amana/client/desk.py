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
from amana.protocol.action import sign_action
from amana.protocol.assertion import sign_assertion
from amana.protocol.dpop import make_proof, thumbprint
from amana.protocol.encoding import unb64
from amana.protocol.signing import SigningKey

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
        # Made for this errand and kept in memory only, so that a token is worth nothing elsewhere.
        self._dpop = SigningKey.generate()
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

    def ask_openly(self, method: str, path: str, document: Mapping[str, Any]) -> Answer:
        """Send one request without signing in; raises NetworkFailed."""
        content = json.dumps(document).encode("utf-8")
        return self.transport.ask(method, path, headers=_JSON, content=content)

    def get(self, path: str, **options: Any) -> Answer:
        """Return what is at `path`; tries again while the network fails, raises Refused."""
        answer = self.patience.persist(lambda: self.ask("GET", path, **options))
        if answer.status != 200:
            raise answer.refusal()
        return answer

    def sign_in(self) -> None:
        """Exchange a fresh assertion for an access token; raises Refused."""
        jkt = thumbprint(unb64(self._dpop.public, 32))
        assertion = sign_assertion(
            self.keys.signing, self.keys.id, self.deployment, self.clock(), jkt=jkt
        )
        answer = self.transport.ask(
            "POST",
            "/v1/sessions",
            headers={**_JSON, "DPoP": self._proof("POST", "/v1/sessions", None)},
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

    def sign_out(self) -> None:
        """End all sessions of this person; raises Refused."""
        answer = self.patience.persist(lambda: self.ask("DELETE", "/v1/sessions"))
        if answer.status != 204:
            raise answer.refusal()
        self._renew_at = 0.0

    def act(
        self,
        kind: str,
        path: str,
        *,
        directory: int,
        case: str | None = None,
        body: Mapping[str, Any] | None = None,
        sent: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Sign an action over `body` and bring both to `path`; raises Refused.

        `sent` travels instead of a body that names only hashes of it, so that the server keeps nothing but those.
        """

        def once() -> Answer:
            # Signed anew at each try: a nonce that may have arrived is not used again.
            action = sign_action(
                self.keys.signing,
                deployment=self.deployment,
                directory=directory,
                action=kind,
                case=case,
                actor=self.keys.id,
                body=dict(body or {}),
                made_at=self.clock(),
            )
            travels = (body or {}) if sent is None else sent
            return self.ask("POST", path, document={**travels, "action": action})

        answer = self.patience.persist(once)
        if not 200 <= answer.status < 300:
            raise answer.refusal()
        return answer

    def _ask_signed_in(
        self, method: str, path: str, headers: Mapping[str, str], options: Mapping[str, Any]
    ) -> Answer:
        if time.monotonic() >= self._renew_at:
            self.sign_in()
        signed = {
            **headers,
            "Authorization": f"DPoP {self._token}",
            "DPoP": self._proof(method, path, self._token),
        }
        return self.transport.ask(method, path, headers=signed, **options)

    def _proof(self, method: str, path: str, token: str | None) -> str:
        url = self.transport.server + path.partition("?")[0]
        return make_proof(self._dpop, method, url, self.clock(), token)
