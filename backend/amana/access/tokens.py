# SPDX-License-Identifier: AGPL-3.0-or-later
"""Access tokens of ten minutes (flask-jwt-extended), bound to a key of their client (RFC 9449). They carry an id only."""

import time
from datetime import timedelta
from typing import Any

import jwt
from flask import Flask, Response, g
from flask_jwt_extended import (
    JWTManager,
    create_access_token,
    get_jwt,
    get_jwt_header,
    verify_jwt_in_request,
)

from amana.access.service import SESSION_SECONDS, Bound, refused
from amana.api.problems import refusal_problem
from amana.api.services import Services, services

TYPE = "at+jwt"
SCHEME = "DPoP"
KEPT_TOKENS = 1000


def register_tokens(app: Flask, given: Services) -> None:
    """Configure the library: header only, one algorithm, keys by name, one answer to everything that is wrong."""
    app.config.update(
        JWT_ALGORITHM="HS256",
        JWT_DECODE_ALGORITHMS=["HS256"],
        JWT_TOKEN_LOCATION=["headers"],
        JWT_HEADER_TYPE=SCHEME,
        # There are no cookies: the claim `csrf` would be read by nobody.
        JWT_COOKIE_CSRF_PROTECT=False,
        JWT_ACCESS_TOKEN_EXPIRES=timedelta(seconds=SESSION_SECONDS),
    )
    manager = JWTManager(app)
    keys = given.secrets.tokens

    @manager.encode_key_loader
    def _signing_key(_identity: str) -> bytes:
        key: bytes = g.token_key[1]
        return key

    @manager.additional_headers_loader
    def _header(_identity: str) -> dict[str, str]:
        return {"typ": TYPE, "kid": g.token_key[0]}

    @manager.decode_key_loader
    def _verifying_key(header: dict[str, Any], _claims: dict[str, Any]) -> bytes:
        key = keys.find(header.get("kid"))
        if key is None or header.get("typ") != TYPE:
            raise jwt.InvalidTokenError
        return key

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


def verified_claims(given: Services, token: str) -> dict[str, Any]:
    """Return the claims of this request's token; raises what the library's handlers answer.

    A token that was verified is not verified again until it is over or its key is gone. Whether its session
    goes on is asked of the database at every request, so that nothing is lost by remembering.
    """
    kept: dict[str, tuple[str, dict[str, Any]]] = given.caches.setdefault("tokens", {})
    kid, claims = kept.get(token, ("", {}))
    if claims and claims["exp"] > time.time() and given.secrets.tokens.find(kid) is not None:
        return claims
    kept.pop(token, None)
    verify_jwt_in_request()
    claims = get_jwt()
    for oldest in list(kept)[: max(0, len(kept) - KEPT_TOKENS + 1)]:
        kept.pop(oldest, None)
    kept[token] = (get_jwt_header()["kid"], claims)
    return claims


def issue(session: Bound) -> str:
    """Return the access token of a session."""
    # Looked up once: between the name and the key another may have become the newest.
    g.token_key = services().secrets.tokens.current()
    token: str = create_access_token(
        identity=session.person,
        additional_claims={"jti": session.id, "cnf": {"jkt": session.jkt}},
    )
    return token
