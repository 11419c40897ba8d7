# SPDX-License-Identifier: AGPL-3.0-or-later
"""The one place where refusals become responses (RFC 9457); `type` is a stable slug, and no input is ever repeated."""

from typing import Any

import marshmallow as ma
from flask import Flask, Response, json, request
from flask_smorest import Api
from werkzeug.exceptions import HTTPException, InternalServerError

from amana.errors import AdmissionAsked, Refusal, Unavailable
from amana.logs import log_failure
from amana.protocol.admission import AdmissionRefused
from amana.protocol.errors import ProtocolError
from amana.storage.blobs import StoreUnavailable
from amana.storage.database import DatabaseUnavailable

MEDIA_TYPE = "application/problem+json"
_KEPT_HEADERS = {"allow", "retry-after", "www-authenticate", "content-range"}


class Problem(ma.Schema):
    """A problem document; some carry more members, which the route's description names."""

    type = ma.fields.String(metadata={"description": "A stable slug.", "example": "not-found"})
    title = ma.fields.String(metadata={"description": "A sentence for a person."})
    status = ma.fields.Integer()


class ProblemApi(Api):
    """flask-smorest whose own errors are problems too, and keep the headers their status demands."""

    ERROR_SCHEMA = Problem

    def handle_http_exception(self, error: HTTPException) -> Response:
        return http_problem(error)

    def _register_responses(self) -> None:
        # flask-smorest writes its default error responses with the media type of results.
        default: str = self.DEFAULT_RESPONSE_CONTENT_TYPE  # type: ignore[has-type]
        self.DEFAULT_RESPONSE_CONTENT_TYPE = MEDIA_TYPE
        super()._register_responses()
        self.DEFAULT_RESPONSE_CONTENT_TYPE = default


def problem(
    slug: str, title: str, status: int, headers: dict[str, str] | None = None, **more: Any
) -> Response:
    """Return the response for one problem."""
    body = json.dumps({"type": slug, "title": title, "status": status, **more})
    response = Response(body, status=status, headers=headers, content_type=MEDIA_TYPE)
    # A refused body may lie unread in the connection; nothing after it could be understood.
    if request.content_length:
        response.headers["Connection"] = "close"
    return response


def refusal_problem(refusal: Refusal) -> Response:
    """Return the response for a refusal."""
    return problem(
        refusal.slug, refusal.title, refusal.status, headers=refusal.headers, **refusal.more
    )


def http_problem(error: HTTPException) -> Response:
    """Return the response for an error of the framework: unknown address, wrong method, invalid fields."""
    status = error.code or 500
    headers = {k: v for k, v in error.get_headers() if k.lower() in _KEPT_HEADERS}
    slug = error.name.lower().replace(" ", "-").replace("'", "")
    faults = getattr(error, "data", {}).get("messages") if hasattr(error, "data") else None
    more = {"fields": _fields(faults)} if isinstance(faults, dict) else {}
    return problem(slug, f"{error.name}.", status, headers=headers, **more)


def _fields(faults: dict[str, Any]) -> list[str]:
    """Name the places of faults, never the values."""
    return sorted(
        str(name)[:40]
        for below in faults.values()
        for name in (below if isinstance(below, dict) else [])
    )


def _protocol_problem(error: ProtocolError) -> Response:
    status = AdmissionAsked.status if isinstance(error, AdmissionRefused) else 422
    return problem(error.slug, error.title, status)


def _unavailable_problem(_error: Exception) -> Response:
    return refusal_problem(Unavailable())


def _unexpected_problem(error: Exception) -> Response:
    log_failure(error, request.url_rule.rule if request.url_rule else None, request.method)
    return http_problem(InternalServerError())


def register_problems(app: Flask) -> None:
    """Make every error of the application a problem document."""
    app.register_error_handler(Refusal, refusal_problem)
    app.register_error_handler(ProtocolError, _protocol_problem)
    app.register_error_handler(StoreUnavailable, _unavailable_problem)
    app.register_error_handler(DatabaseUnavailable, _unavailable_problem)
    app.register_error_handler(HTTPException, http_problem)
    app.register_error_handler(Exception, _unexpected_problem)
