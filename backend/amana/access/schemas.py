# SPDX-License-Identifier: AGPL-3.0-or-later
"""What sign-in takes and answers."""

import marshmallow as ma


class AssertionIn(ma.Schema):
    """A signed assertion (JWT)."""

    class Meta:
        unknown = ma.RAISE

    assertion = ma.fields.String(required=True, validate=ma.validate.Length(max=2048))


class SessionOut(ma.Schema):
    """An access token and how long it works."""

    access_token = ma.fields.String()
    token_type = ma.fields.String(metadata={"example": "DPoP"})
    expires_in = ma.fields.Integer(metadata={"description": "Seconds.", "example": 600})
