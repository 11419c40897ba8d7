# SPDX-License-Identifier: AGPL-3.0-or-later
"""Openness said aloud: every blueprint has a door, and this is the one that stands open (tests/contracts checks)."""


def nobody_needs_to_sign_in() -> None:
    """Let everyone pass: witnesses have no accounts, and probes need none."""
