# SPDX-License-Identifier: AGPL-3.0-or-later
"""What sign-in takes and answers."""

import marshmallow as ma


class ActionIn(ma.Schema):
    """A signed action, and nothing that it does not sign."""

    class Meta:
        unknown = ma.RAISE

    action = ma.fields.Dict(
        required=True, metadata={"description": "The signed action (docs/protocol.md §9)."}
    )


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
