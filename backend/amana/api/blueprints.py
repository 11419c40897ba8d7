# SPDX-License-Identifier: AGPL-3.0-or-later
"""Blueprints whose JSON bodies can be read in one way only: what two parsers read differently is refused."""

from http import HTTPStatus
from typing import Any

import flask_smorest
from flask import Request
from webargs.flaskparser import FlaskParser

from amana.errors import Refusal, WrongMediaType
from amana.protocol.encoding import NotCanonical, parse_strict

MEDIA_TYPE = "application/json"


class JsonInvalid(Refusal):
    slug = "json-invalid"
    status = 400
    title = "The body is not JSON in UTF-8, says something twice, or is nested too deep."


class _StrictParser(FlaskParser):
    def load_json(self, req: Request, schema: Any) -> Any:  # noqa: ARG002
        charset = req.mimetype_params.get("charset", "utf-8").lower()
        others = req.mimetype_params.keys() - {"charset"}
        if req.mimetype != MEDIA_TYPE or charset != "utf-8" or others or req.content_encoding:
            raise WrongMediaType
        try:
            return parse_strict(req.get_data())
        except NotCanonical:
            raise JsonInvalid from None


class Blueprint(flask_smorest.Blueprint):
    """A blueprint of flask-smorest that parses JSON strictly (RFC 8259 §4: names should be unique; here they must)."""

    ARGUMENTS_PARSER = _StrictParser()

    def arguments(self, schema: Any, **options: Any) -> Any:
        """Parse with one instance of a schema, which would otherwise be made for every request."""
        return super().arguments(schema() if isinstance(schema, type) else schema, **options)

    def problems(self, *statuses: int) -> Any:
        """Document the problems that a view answers with, by their references."""
        # One wrapper for all: `alt_response` would put one for each between every request and its view.
        return self.doc(responses={status: HTTPStatus(status).name for status in statuses})
