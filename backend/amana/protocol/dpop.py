# SPDX-License-Identifier: AGPL-3.0-or-later
"""Proof of possession for every request of staff (RFC 9449): a stolen token is worth nothing without its key."""

import hashlib
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Any

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from amana.protocol.encoding import check_id, random_id, unb64
from amana.protocol.errors import ProtocolError
from amana.protocol.signing import SigningKey

TYPE = "dpop+jwt"
ALGORITHM = "EdDSA"
WINDOW_SECONDS = 60
LIMIT_CHARACTERS = 2048
_BASE64URL_32 = re.compile(r"[A-Za-z0-9_-]{43}")


class ProofRefused(ProtocolError):
    """A proof is not for this request, this token and this moment, by the key that it must be by."""

    slug = "dpop-refused"
    title = "The proof of possession is not for this request."


def thumbprint(public: bytes) -> str:
    """Return the JWK thumbprint (RFC 7638, RFC 8037 §2) of a raw Ed25519 public key, Base64url."""
    jwk = json.dumps(_jwk(public), sort_keys=True, separators=(",", ":"))
    return _base64url(hashlib.sha256(jwk.encode("ascii")).digest())


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
    if len(proof) > LIMIT_CHARACTERS:
        raise ProofRefused
    try:
        header, claims, public = _verified(proof)
        check_id(claims.get("jti"))
    except (jwt.PyJWTError, ProtocolError, ValueError, TypeError, RecursionError):
        raise ProofRefused from None
    except InvalidSignature:
        raise ProofRefused from None
    issued = claims.get("iat")
    fits = (
        header.get("typ") == TYPE
        and thumbprint(public) == jkt
        and claims.get("htm") == method
        and isinstance(claims.get("htu"), str)
        and claims["htu"] in urls
        and type(issued) is int
        and abs(now.timestamp() - issued) <= WINDOW_SECONDS
        and claims.get("ath") == (None if token is None else token_hash(token))
    )
    if not fits:
        raise ProofRefused


def _verified(proof: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Return header, claims and key of a proof that its own key signed.

    PyJWT wants the key before it reads the header, and would take the proof apart twice; so it is let
    loose without, and the signature (RFC 7515 §5.2, RFC 8037 §3.1) is verified here, before anything counts.
    """
    parts = jwt.api_jws.decode_complete(proof, options={"verify_signature": False})
    header: dict[str, Any] = parts["header"]
    if header.get("alg") != ALGORITHM or "crit" in header or "b64" in header:
        raise ProofRefused
    public = _public(header)
    signed = proof.rpartition(".")[0].encode("ascii")
    Ed25519PublicKey.from_public_bytes(public).verify(parts["signature"], signed)
    claims = json.loads(parts["payload"])
    if not isinstance(claims, dict):
        raise ProofRefused
    return header, claims, public


def token_hash(token: str) -> str:
    """Return the claim `ath` for an access token."""
    return _base64url(hashlib.sha256(token.encode("ascii")).digest())


def _jwk(public: bytes) -> dict[str, str]:
    return {"crv": "Ed25519", "kty": "OKP", "x": _base64url(public)}


def _public(header: dict[str, Any]) -> bytes:
    """Return the key that a proof brings; it must be a public Ed25519 key and nothing more."""
    jwk = header.get("jwk")
    x = jwk.get("x") if isinstance(jwk, dict) else None
    if not isinstance(x, str) or not _BASE64URL_32.fullmatch(x):
        raise ProofRefused
    public = urlsafe_b64decode(x + "=")
    if jwk != _jwk(public):
        raise ProofRefused
    return public


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).decode("ascii").rstrip("=")
