# SPDX-License-Identifier: AGPL-3.0-or-later
"""The assertion with which staff sign in (docs/protocol.md §12.3): a short-lived JWT by the key the officers vouched for."""

from datetime import datetime

import jwt

from amana.protocol.encoding import random_id
from amana.protocol.jws import ALGORITHM
from amana.protocol.signing import SigningKey

TYPE = "amana-assertion+jwt"
MAX_SECONDS = 120
CLOCK_SKEW_SECONDS = 30


def sign_assertion(
    key: SigningKey, person: str, deployment: str, now: datetime, *, jkt: str, seconds: int = 60
) -> str:
    """Return an assertion for one sign-in, whose token works only with the DPoP key of thumbprint `jkt`."""
    issued = int(now.timestamp())
    claims = {
        "iss": person,
        "sub": person,
        "aud": deployment,
        "iat": issued,
        "exp": issued + seconds,
        "jti": random_id(),
        # RFC 7800 §3.1, RFC 9449 §6.1: whoever steals the assertion cannot bind it to their own key.
        "cnf": {"jkt": jkt},
    }
    return jwt.encode(claims, key.private, algorithm=ALGORITHM, headers={"typ": TYPE})
