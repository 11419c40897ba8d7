# SPDX-License-Identifier: AGPL-3.0-or-later
"""What admission costs today: pure rules over the day and the number of testimonies; nobody is ever refused for good."""

from datetime import date

from amana.api.secrets import Secrets
from amana.protocol.admission import MAX_PRICE, Notice


def notice(
    secrets: Secrets, today: date, *, base: int, announced_today: int, busy_per_day: int
) -> Notice:
    """Return today's seed and price: one more zero bit each time the day's number doubles beyond a busy day."""
    seed = secrets.derive("admission-seed", today.isoformat())
    price = base + (announced_today // busy_per_day).bit_length()
    return Notice(today.isoformat(), seed, min(price, MAX_PRICE))
