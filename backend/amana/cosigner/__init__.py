# SPDX-License-Identifier: AGPL-3.0-or-later
"""A far end of its own: what a partner organisation runs to watch that logs only grow. Knows the protocol and nothing else.

It needs Python, `cryptography` and, for the command, `click`; not the server, its database or its libraries.
"""
