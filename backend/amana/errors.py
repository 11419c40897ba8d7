# SPDX-License-Identifier: AGPL-3.0-or-later
"""Every way a request can be refused, as a tree, in domain words. Services raise these; api/problems.py renders them.

Refusal
├── NotFound                 404
├── Conflict                 409
│   ├── CaseDiffers
│   ├── CaseIncomplete
│   └── UploadOffsetMismatch
├── Gone                     410
├── NotAllowed               403
├── NotSignedIn              401
├── Unprocessable            422
│   └── ObjectHashMismatch
└── Unavailable              503
"""

from collections.abc import Mapping
from typing import Any


class Refusal(Exception):
    """A request is refused for a reason its sender can act on.

    `more` is added to the problem document, `headers` to the response. Neither may hold content,
    an address or a secret.
    """

    slug = "refused"
    status = 400
    title = "The request was refused."

    def __init__(
        self,
        title: str | None = None,
        *,
        slug: str | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        self.slug = slug or type(self).slug
        self.title = title or type(self).title
        self.headers = dict(headers or {})
        self.more = more
        super().__init__(self.title)


class NotFound(Refusal):
    slug = "not-found"
    status = 404
    title = "There is nothing here."


class NotSignedIn(Refusal):
    slug = "not-signed-in"
    status = 401
    title = "Sign in first; the sign-in is missing, over, or was not accepted."


class NotAllowed(Refusal):
    slug = "not-allowed"
    status = 403
    title = "Your roles do not allow this."


class Conflict(Refusal):
    slug = "conflict"
    status = 409
    title = "The request does not fit the state of things on the server."


class CaseDiffers(Conflict):
    slug = "case-differs"
    title = "This case arrived before with other bytes; what arrived first stays as it is."


class CaseIncomplete(Conflict):
    slug = "case-incomplete"
    title = "Not everything that was announced has arrived yet."


class UploadOffsetMismatch(Conflict):
    slug = "upload-offset-mismatch"
    title = "The server has a different number of bytes than you think."


class UploadBusy(Conflict):
    slug = "upload-busy"
    title = "Another request is writing this upload and does not end; try again in a moment."


class Gone(Refusal):
    slug = "gone"
    status = 410
    title = "This is no longer here."


class CaseWithdrawn(Gone):
    slug = "case-withdrawn"
    title = "The witness has withdrawn this testimony."


class CaseExpired(Gone):
    slug = "case-expired"
    title = "The time for which this testimony was kept is over; it is destroyed."


class UploadGone(Gone):
    slug = "upload-gone"
    title = "This upload was finished, deleted, or kept open for too long."


class TooLarge(Refusal):
    slug = "too-large"
    status = 413
    title = "The request is larger than what was announced or allowed."


class WrongMediaType(Refusal):
    slug = "wrong-media-type"
    status = 415
    title = "The content type is not the one that this address takes."


class Unprocessable(Refusal):
    slug = "unprocessable"
    status = 422
    title = "The request is well formed but cannot be accepted."


class ObjectHashMismatch(Unprocessable):
    slug = "object-hash-mismatch"
    title = "An object does not have the hash that was announced; it was discarded, send it again."


class AdmissionAsked(Refusal):
    slug = "admission-wrong"
    status = 402
    title = "The price of admission was not paid for this submission."


class Unavailable(Refusal):
    slug = "unavailable"
    status = 503
    title = "The service cannot take this now. Nothing is lost; try again later."

    def __init__(
        self, title: str | None = None, *, retry_after_seconds: int = 30, **more: Any
    ) -> None:
        super().__init__(title, headers={"Retry-After": str(retry_after_seconds)}, **more)


class OtherFailed(Exception):
    """Somebody whom this server asked did not give what was asked for; `slug` says why, for the log."""

    def __init__(self, slug: str) -> None:
        self.slug = slug
        super().__init__(slug)
