# SPDX-License-Identifier: AGPL-3.0-or-later
"""Proof of possession for every request of staff (RFC 9449): a stolen token is worth nothing without its key."""

import hashlib
import re
from datetime import datetime
from functools import lru_cache
from typing import Any

import jwt

from amana.protocol.encoding import check_id, random_id, unb64
from amana.protocol.errors import ProtocolError
from amana.protocol.jws import ALGORITHM, base64url, base64url_decode, read_header, split_jws
from amana.protocol.signing import SigningKey

TYPE = "dpop+jwt"
WINDOW_SECONDS = 60
KEPT_KEYS = 1000
_BASE64URL_32 = re.compile(r"[A-Za-z0-9_-]{43}")


class ProofRefused(ProtocolError):
    """A proof is not for this request, this token and this moment, by the key that it must be by."""

    slug = "dpop-refused"
    title = "The proof of possession is not for this request."


def thumbprint(public: bytes) -> str:
    """Return the JWK thumbprint (RFC 7638, RFC 8037 §2) of a raw Ed25519 public key, Base64url."""
    # RFC 7638 §3.3: the required members in the order of their names, without white space.
    jwk = f'{{"crv":"Ed25519","kty":"OKP","x":"{base64url(public)}"}}'
    return base64url(hashlib.sha256(jwk.encode("ascii")).digest())


def make_proof(
    key: SigningKey, method: str, url: str, now: datetime, token: str | None = None
) -> str:
    """Return a proof for one request (RFC 9449 §4.2); `url` is without query and fragment."""
    claims: dict[str, Any] = {
        "jti": random_id(),
        "htm": method,
        "htu": url,
        "iat": int(now.timestamp()),
    }
    if token is not None:
        claims["ath"] = token_hash(token)
    header = {"typ": TYPE, "jwk": _jwk(unb64(key.public, 32))}
    return jwt.encode(claims, key.private, algorithm=ALGORITHM, headers=header)


def check_proof(
    proof: str,
    *,
    method: str,
    urls: frozenset[str],
    token: str | None,
    jkt: str,
    now: datetime,
) -> None:
    """Check a proof (RFC 9449 §4.3) for a request to one of `urls`, by the key with thumbprint `jkt`.

    `token` is the access token that came with it, or None at sign-in. Raises ProofRefused. That one proof
    could be sent twice within its window is not looked at: it would ask the same thing again, and what
    changes anything needs an action with a nonce besides.
    """
    try:
        jws = split_jws(proof)
        thumbprint_of_key, key = _key(jws.header)
        jws.verify(key)
        claims = jws.claims()
        check_id(claims.get("jti"))
    except ProtocolError:
        raise ProofRefused from None
    issued = claims.get("iat")
    fits = (
        thumbprint_of_key == jkt
        and claims.get("htm") == method
        and isinstance(claims.get("htu"), str)
        and claims["htu"] in urls
        and type(issued) is int
        and abs(now.timestamp() - issued) <= WINDOW_SECONDS
        and claims.get("ath") == (None if token is None else token_hash(token))
    )
    if not fits:
        raise ProofRefused


def token_hash(token: str) -> str:
    """Return the claim `ath` for an access token."""
    return base64url(hashlib.sha256(token.encode("ascii")).digest())


def _jwk(public: bytes) -> dict[str, str]:
    return {"crv": "Ed25519", "kty": "OKP", "x": base64url(public)}


@lru_cache(maxsize=KEPT_KEYS)
def _key(header: str) -> tuple[str, bytes]:
    """Return thumbprint and key of a proof's header; it must be a public Ed25519 key and nothing more.

    A client sends the same header with every request, so it is parsed once.
    """
    jwk = read_header(header, TYPE).get("jwk")
    x = jwk.get("x") if isinstance(jwk, dict) else None
    if not isinstance(x, str) or not _BASE64URL_32.fullmatch(x):
        raise ProofRefused
    public = base64url_decode(x)
    if jwk != _jwk(public):
        raise ProofRefused
    return thumbprint(public), public
