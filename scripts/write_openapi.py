# SPDX-License-Identifier: AGPL-3.0-or-later
"""Write docs/openapi.json from the code; a test checks that it is fresh."""

import json
import tempfile
from pathlib import Path
from typing import Any

from amana.api.openapi import document
from amana.app import create_app, make_services
from amana.config import read_config

TARGET = Path(__file__).parents[1] / "docs" / "openapi.json"


def openapi_document() -> dict[str, Any]:
    """Return the document of both applications together."""
    with tempfile.TemporaryDirectory() as folder:
        services = make_services(read_config(Path(folder)), create_secrets=True)
        return document(create_app(services))


def text() -> str:
    return json.dumps(openapi_document(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
