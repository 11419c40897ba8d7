# SPDX-License-Identifier: AGPL-3.0-or-later
"""The door to everything of staff: a valid token, of a person whom the directory has at this moment."""

from flask import g
from flask_jwt_extended import get_jwt_identity, verify_jwt_in_request

from amana.access.roles import Actor
from amana.access.service import actor_of
from amana.api.services import services
from amana.directory import service as directory


def staff_must_sign_in() -> None:
    """Let pass only who is signed in, and remember who it is."""
    verify_jwt_in_request()
    given = services()
    with given.database.reading() as session:
        now = directory.current(session, given.caches)
    g.actor = actor_of(now, get_jwt_identity())


def actor() -> Actor:
    """Return who makes this request."""
    found: Actor = g.actor
    return found
