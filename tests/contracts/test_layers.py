"""Imports run against the flow of a testimony (pyproject.toml), and locks carry hashes and no addresses."""

import re
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[2]


def test_imports_keep_their_contracts() -> None:
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml")) == 0


def test_locks_carry_hashes_and_no_addresses() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        assert "://" not in text
        requirements = re.findall(r"^[a-z0-9].*?==.*$", text, re.MULTILINE | re.IGNORECASE)
        assert len(requirements) > 20
        assert text.count("--hash=sha256:") >= len(requirements)
    lock = (ROOT / "tests" / "interop" / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert '"integrity"' in lock
