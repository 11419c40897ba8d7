# SPDX-License-Identifier: AGPL-3.0-or-later
"""What every response carries, so that nothing is cached, framed, guessed or leaked on to another site."""

from flask import Flask, Response

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def register_headers(app: Flask) -> None:
    """Add the headers to every response that does not set its own."""

    @app.after_request
    def add(response: Response) -> Response:
        set_already = {name.lower() for name, _ in response.headers}
        response.headers.extend(
            [(name, value) for name, value in HEADERS.items() if name.lower() not in set_already]
        )
        return response
