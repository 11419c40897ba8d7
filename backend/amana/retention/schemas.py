# SPDX-License-Identifier: AGPL-3.0-or-later
"""What is taken and answered about how long cases are kept."""

import marshmallow as ma

from amana.access.schemas import ActionIn
from amana.intake.retention import PROLONG_REASONS, Then


class ProlongationIn(ActionIn):
    """Until when a case is kept without being looked at again, and a word why."""

    until = ma.fields.Date(required=True, format="%Y-%m-%d")
    reason = ma.fields.String(required=True, validate=ma.validate.OneOf(PROLONG_REASONS))


class ReviewOut(ma.Schema):
    """The review day of a case, and what follows on it: a lead's look, or its end."""

    case = ma.fields.String()
    desk = ma.fields.String()
    state = ma.fields.String()
    review_on = ma.fields.Date()
    then = ma.fields.Enum(Then, by_value=ma.fields.String, metadata={"example": "expire"})
    ends_on = ma.fields.Date(
        allow_none=True, metadata={"description": "When it expires unless it is prolonged."}
    )
    prolonged_until = ma.fields.Date(allow_none=True)


class ReviewsOut(ma.Schema):
    """Cases whose review day has come."""

    cases = ma.fields.List(ma.fields.Nested(ReviewOut))
