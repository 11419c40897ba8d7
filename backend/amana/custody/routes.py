# SPDX-License-Identifier: AGPL-3.0-or-later
"""The logs as C2SP tlog-tiles serves them, and proofs for whoever knows a leaf; open to everybody."""

from flask import Response, request

from amana.api.blueprints import Blueprint
from amana.api.doors import nobody_needs_to_sign_in
from amana.api.problems import refusal_problem
from amana.api.services import services
from amana.custody import reading
from amana.custody.publishing import LogDamaged
from amana.errors import NotFound
from amana.logs import Seldom
from amana.protocol.encoding import check_sha256_hex
from amana.protocol.errors import ProtocolError

FOR_SECONDS = "public, max-age=2"
FOR_GOOD = "public, max-age=31536000, immutable"
TOLD_EVERY_SECONDS = 600.0

logs = Blueprint("logs", __name__, description="The public logs (C2SP tlog-tiles).")
logs.before_request(nobody_needs_to_sign_in)


@logs.errorhandler(LogDamaged)
def tell_damage(refused: LogDamaged) -> Response:
    """Tell the operator what outsiders are told: nothing else reads old files of a log."""
    caches = services().caches
    caches.setdefault("log-damaged", Seldom(LogDamaged.slug, TOLD_EVERY_SECONDS)).log()
    return refusal_problem(refused)


@logs.get("/log/<name>/checkpoint")
@logs.response(200, description="The newest checkpoint, a signed note.")
@logs.problems(404)
def get_checkpoint(name: str) -> Response:
    """Give the newest checkpoint of a log."""
    with services().database.reading() as session:
        note = reading.published(session, name).note
    return _file(note, "text/plain; charset=utf-8", FOR_SECONDS)


@logs.get("/log/<name>/cosigned")
@logs.response(200, description="The newest checkpoint that cosigners vouch for, a signed note.")
@logs.problems(404)
def get_cosigned(name: str) -> Response:
    """Give the newest checkpoint of a log with the signatures of its cosigners."""
    with services().database.reading() as session:
        note = reading.cosigned(session, name).note
    return _file(note, "text/plain; charset=utf-8", FOR_SECONDS)


@logs.get("/log/<name>/tile/<path:path>")
@logs.response(200, description="Hashes, or entries each after its length.")
@logs.problems(404, 503)
def get_tile(name: str, path: str) -> Response:
    """Give a tile of hashes or a bundle of entries; neither ever changes."""
    given = services()
    with given.database.reading() as session:
        content = reading.tile(session, given.blobs, name, path)
    return _file(content, "application/octet-stream", FOR_GOOD)


@logs.get("/log/<name>/stamps/<int:place>")
@logs.response(200, description="Lines of size and authority.")
@logs.problems(404)
def get_stamps(name: str, place: int) -> Response:
    """Tell which time stamps cover a place of a log: the earliest of each authority."""
    with services().database.reading() as session:
        found = reading.stamps(session, name, place)
    return _file(found, "text/plain; charset=utf-8", FOR_SECONDS)


@logs.get("/log/<name>/stamp/<int:size>/<file>")
@logs.response(200, description="The checkpoint, an answer (RFC 3161), or certificates in PEM.")
@logs.problems(404, 503)
def get_stamp(name: str, size: int, file: str) -> Response:
    """Give a file of a time stamp: what was stamped, what the authority answered, its certificates."""
    content, content_type = reading.stamp(services().blobs, name, size, file)
    return _file(content, content_type, FOR_GOOD)


@logs.get("/log/<name>/proof/<leaf>")
@logs.response(200, description="A proof (C2SP tlog-proof) to the newest checkpoint.")
@logs.problems(404, 503)
def get_proof(name: str, leaf: str) -> Response:
    """Prove that the custody log holds a leaf, given in hexadecimal; receipts tell theirs."""
    given = services()
    cache = given.caches.setdefault("tiles", reading.TileCache())
    try:
        entry = bytes.fromhex(check_sha256_hex(leaf))
    except ProtocolError:
        raise NotFound from None
    with given.database.reading() as session:
        proof = reading.prove(session, given.blobs, cache, name, entry)
    return Response(bytes(proof), content_type="text/plain; charset=utf-8")


def _file(content: bytes, content_type: str, kept: str) -> Response:
    response = Response(content, content_type=content_type)
    response.headers["Cache-Control"] = kept
    response.add_etag()
    response.make_conditional(request)
    return response
