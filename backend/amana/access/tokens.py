# SPDX-License-Identifier: AGPL-3.0-or-later
"""Access tokens of ten minutes (flask-jwt-extended). They carry an id; what it may do is read anew at each request."""

from datetime import timedelta
from typing import Any

from flask import Flask, Response
from flask_jwt_extended import JWTManager, create_access_token

from amana.access.service import refused
from amana.api.problems import refusal_problem
from amana.api.services import Services
from amana.protocol.encoding import b64

TOKEN_SECONDS = 600
TYPE = "at+jwt"


def register_tokens(app: Flask, services: Services) -> None:
    """Configure the library: header only, one algorithm, one answer to everything that is wrong."""
    app.config.update(
        JWT_SECRET_KEY=b64(services.secrets.tokens),
        JWT_ALGORITHM="HS256",
        JWT_DECODE_ALGORITHMS=["HS256"],
        JWT_TOKEN_LOCATION=["headers"],
        JWT_ACCESS_TOKEN_EXPIRES=timedelta(seconds=TOKEN_SECONDS),
    )
    manager = JWTManager(app)
    for loader in (
        manager.unauthorized_loader,
        manager.invalid_token_loader,
        manager.expired_token_loader,
        manager.revoked_token_loader,
        manager.needs_fresh_token_loader,
        manager.token_verification_failed_loader,
        manager.user_lookup_error_loader,
    ):
        loader(_refused)


def _refused(*_reason: Any) -> Response:
    # Returned, not raised: an error raised inside the library's error handling becomes a 500.
    return refusal_problem(refused())


def issue(person: str) -> str:
    """Return an access token for a person."""
    token: str = create_access_token(identity=person, additional_headers={"typ": TYPE})
    return token
