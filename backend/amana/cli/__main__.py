# SPDX-License-Identifier: AGPL-3.0-or-later
"""Run the commands as `python -m amana.cli`."""

from amana.cli import main

main()
