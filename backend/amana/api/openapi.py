# SPDX-License-Identifier: AGPL-3.0-or-later
"""The OpenAPI 3.1 document and a page that shows it; both come from this package alone and load nothing from elsewhere."""

import secrets
from typing import Any

from flask import Flask, Response, render_template_string
from flask_smorest import Api

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ spec.info.title }} API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style nonce="{{ nonce }}">
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1c1c;background:#fff}
h2{margin-top:2.5rem;border-bottom:1px solid #bbb}details{border:1px solid #ccc;border-radius:4px;margin:.5rem 0;padding:.4rem .8rem}
summary{cursor:pointer}code,pre{font:14px/1.4 ui-monospace,monospace}pre{overflow-x:auto;background:#f5f5f5;padding:.6rem}
.method{display:inline-block;min-width:5rem;font-weight:700}
@media (prefers-color-scheme:dark){body{color:#eee;background:#161616}pre{background:#222}details{border-color:#444}}
</style></head><body>
<h1>{{ spec.info.title }}, version {{ spec.info.version }}</h1>
<p>{{ spec.info.description }} The whole document: <a href="/openapi.json">openapi.json</a>.</p>
{% for tag in spec.tags %}<h2>{{ tag.name }}</h2><p>{{ tag.description }}</p>
{% for path, methods in spec.paths.items() %}{% for method, operation in methods.items() %}
{% if operation.tags and operation.tags[0] == tag.name %}
<details><summary><span class="method">{{ method | upper }}</span> <code>{{ path }}</code> {{ operation.summary }}</summary>
{% if operation.parameters or methods.parameters %}<h3>Parameters</h3><pre>{{ (operation.parameters or methods.parameters) | tojson(2) }}</pre>{% endif %}
{% if operation.requestBody %}<h3>Request</h3><pre>{{ operation.requestBody | tojson(2) }}</pre>{% endif %}
<h3>Answers</h3><pre>{{ operation.responses | tojson(2) }}</pre></details>
{% endif %}{% endfor %}{% endfor %}{% endfor %}
<h2>Schemas</h2>{% for name, schema in spec.components.schemas.items() %}
<details><summary><code>{{ name }}</code></summary><pre>{{ schema | tojson(2) }}</pre></details>{% endfor %}
</body></html>
"""


def options() -> dict[str, Any]:
    """Return what flask-smorest cannot know: the description and how staff sign in."""
    return {
        "info": {
            "description": "Sealed testimony arrives at intake; vetted reviewers read it at the desk.",
            "license": {"name": "AGPL-3.0-or-later", "identifier": "AGPL-3.0-or-later"},
        },
        "components": {
            "securitySchemes": {
                # The scheme's registered name (RFC 9449 §12); each request also brings a DPoP header.
                "dpop": {"type": "http", "scheme": "DPoP"}
            }
        },
    }


def register_docs(app: Flask) -> None:
    """Serve `/openapi.json` and `/docs`; for staff and local use, so never on the public surface."""

    @app.get("/openapi.json")
    def openapi_document() -> dict[str, Any]:
        return document(app)

    @app.get("/docs")
    def docs() -> Response:
        nonce = secrets.token_urlsafe(16)
        page = Response(render_template_string(_PAGE, spec=document(app), nonce=nonce))
        page.headers["Content-Security-Policy"] = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; frame-ancestors 'none'; base-uri 'none'"
        )
        return page


def document(app: Flask) -> dict[str, Any]:
    """Return the OpenAPI document of an application."""
    api: Api = app.extensions["amana.api"]
    spec: dict[str, Any] = api.spec.to_dict()
    return spec
