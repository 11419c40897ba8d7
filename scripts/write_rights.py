# SPDX-License-Identifier: AGPL-3.0-or-later
"""Write docs/rights.md: roles × permissions as the code has them. Run `python -m scripts.write_rights`."""

from pathlib import Path

from amana.access.roles import PERMISSIONS

TARGET = Path(__file__).parents[1] / "docs" / "rights.md"
ROLES = ("reviewer", "lead", "custodian", "administrator", "auditor")
HEAD = """\
# Rights

Who may do what at the desk, as `backend/amana/access/roles.py` has it; a test keeps this page fresh. Which roles a person
has stands in the directory that the officers signed, and nowhere else. Nobody is administrator and reader at once, and
nobody decides about themselves. No role opens a testimony: keys do. Officers sign in nowhere.

"""


def text() -> str:
    """Return the page."""
    lines = [f"| | {' | '.join(ROLES)} |", "|---" * (len(ROLES) + 1) + "|"]
    for permission, roles in PERMISSIONS.items():
        marks = ("✓" if role in roles else "" for role in ROLES)
        lines.append(f"| {permission} | {' | '.join(marks)} |")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
