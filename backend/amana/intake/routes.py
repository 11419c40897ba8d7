# SPDX-License-Identifier: AGPL-3.0-or-later
"""The public surface of intake (docs/protocol.md §12): parse, call one function, shape the answer."""

import json
from typing import Any, cast

from flask import Response, current_app, request

from amana.api.blueprints import Blueprint
from amana.api.body import Body
from amana.api.doors import nobody_needs_to_sign_in
from amana.api.services import services
from amana.errors import NotFound, WrongMediaType
from amana.intake import appending, receiving, uploads
from amana.intake.parts import PARTS_FAULT, parse_parts
from amana.intake.schemas import AnnouncedOut, CompletionOut, NoticeOut
from amana.intake.writers import Writers
from amana.protocol.submission import Submission, SubmissionInvalid

SUBMISSION_LIMIT_BYTES = 512 * 1024
PARTS = (
    "case",
    "policy",
    "labels",
    "grants",
    "manifest",
    "account",
    "objects",
    "shares",
    "admission",
)
OPTIONAL_PARTS = frozenset({"account", "admission"})

admission = Blueprint("admission", __name__, description="What a submission costs today.")
testimonies = Blueprint("testimonies", __name__, description="Sealed testimonies arrive.")
resumable = Blueprint(
    "uploads", __name__, description="Large objects follow, resumably (tus 1.0.0)."
)
for blueprint in (admission, testimonies, resumable):
    blueprint.before_request(nobody_needs_to_sign_in)


@admission.get("/v1/admission")
@admission.response(200, NoticeOut)
def today() -> dict[str, Any]:
    """Tell today's seed and price of admission."""
    return receiving.notice(services()).document()


_BINARY = {"type": "string", "format": "binary"}
_SUBMISSION = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [name for name in PARTS if name not in OPTIONAL_PARTS],
                "properties": dict.fromkeys(PARTS, _BINARY),
                "additionalProperties": False,
            }
        }
    },
}


@testimonies.post("/v1/testimonies")
@testimonies.response(201, AnnouncedOut)
@testimonies.alt_response(200, schema=AnnouncedOut, description="The same bytes again.")
@testimonies.doc(requestBody=_SUBMISSION)
@testimonies.problems(402, 409, 413, 415, 422, 503)
def submit() -> Response:
    """Take a sealed testimony; a text-only one is received with this one request."""
    request.max_content_length = SUBMISSION_LIMIT_BYTES
    parts = _parts()
    proof = parts.pop("admission", None)
    announced = receiving.take(services(), Submission(**{"account": b"", **parts}), proof)
    # Straight to JSON: marshmallow would walk the receipt once more, on the busiest request there is.
    return jsonify_as(announced.document, 201 if announced.new else 200)


def jsonify_as(document: dict[str, Any], status: int) -> Response:
    return Response(json.dumps(document), status=status, content_type="application/json")


def _parts() -> dict[str, bytes]:
    if request.mimetype != "multipart/form-data":
        raise WrongMediaType
    boundary = request.mimetype_params.get("boundary", "")
    parts = parse_parts(boundary, request.get_data(cache=False))
    known = set(PARTS)
    if not known - OPTIONAL_PARTS <= parts.keys() <= known:
        raise SubmissionInvalid("parts-invalid", PARTS_FAULT)
    return parts


def _writers() -> Writers:
    return cast(Writers, current_app.extensions["amana.writers"])


def _upload(capability: str) -> tuple[str, int]:
    uploads.check_version(request.headers.get("Tus-Resumable"))
    case, n = uploads.parse_capability(services().secrets, capability)
    if n is None:
        raise NotFound
    return case, n


@resumable.after_request
def speak_tus(response: Response) -> Response:
    """Name the tus version on every answer about uploads."""
    response.headers["Tus-Resumable"] = uploads.TUS_VERSION
    return response


@resumable.route("/v1/uploads/<capability>", methods=["OPTIONS"])
@resumable.response(204)
def describe(capability: str) -> Response:  # noqa: ARG001
    """Tell which tus version and extensions are spoken."""
    headers = {
        "Tus-Version": uploads.TUS_VERSION,
        "Tus-Extension": uploads.TUS_EXTENSIONS,
        "Tus-Checksum-Algorithm": uploads.CHECKSUM_ALGORITHM,
        "Tus-Max-Size": str(services().config.limits.object_bytes),
    }
    return Response(status=204, headers=headers)


@resumable.route("/v1/uploads/<capability>", methods=["HEAD"])
@resumable.response(200)
@resumable.problems(404, 410, 412)
def offset(capability: str) -> Response:
    """Tell how many bytes of an object are durable."""
    done, size, expires_on = appending.offset_of(services(), _writers(), *_upload(capability))
    headers = {"Upload-Offset": str(done), "Upload-Length": str(size)}
    if expires_on:
        headers["Upload-Expires"] = uploads.http_date(expires_on)
    return Response(status=200, headers=headers)


_BYTES = {"required": True, "content": {uploads.MEDIA_TYPE: {"schema": _BINARY}}}


@resumable.route("/v1/uploads/<capability>", methods=["PATCH"])
@resumable.response(204)
@resumable.doc(requestBody=_BYTES)
@resumable.problems(400, 404, 408, 409, 410, 411, 412, 413, 415, 422, 503)
def append(capability: str) -> Response:
    """Append bytes to an object at its offset."""
    case, n = _upload(capability)
    patch = uploads.parse_patch(
        media_type=request.mimetype,
        offset=request.headers.get("Upload-Offset"),
        length=request.headers.get("Content-Length"),
        checksum=request.headers.get("Upload-Checksum"),
    )
    body = Body(request.environ, patch.length, services().config.silence_seconds)
    done = appending.append(services(), _writers(), case, n, patch, body)
    return Response(status=204, headers={"Upload-Offset": str(done)})


@resumable.route("/v1/uploads/<capability>", methods=["DELETE"])
@resumable.response(204)
@resumable.problems(404, 409, 410, 412, 503)
def terminate(capability: str) -> Response:
    """End an upload for good."""
    appending.remove(services(), _writers(), *_upload(capability))
    return Response(status=204)


@resumable.post("/v1/uploads/<capability>/completion")
@resumable.response(200, CompletionOut)
@resumable.alt_response(202, schema=CompletionOut, description="Large objects are being read back.")
@resumable.problems(404, 409, 410, 422, 503)
def complete(capability: str) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Ask for the receipt once everything was sent; may be repeated."""
    case, n = uploads.parse_capability(services().secrets, capability)
    if n is not None:
        raise NotFound
    receipt = appending.complete(services(), _writers(), case)
    if receipt is None:
        return {"verifying": True}, 202, {"Retry-After": "1"}
    return {"receipt": json.loads(receipt)}, 200, {}
