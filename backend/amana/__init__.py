# SPDX-License-Identifier: AGPL-3.0-or-later
"""Amana takes sealed testimony of survivors and witnesses and brings it to vetted reviewers.

The way of a testimony, and the reading order: `protocol` is what travels. `client` seals it on the
witness's device, for readers whom the officers signed into the `directory`. `intake` takes it without
being able to read it; its large objects follow as uploads into `storage`; `custody` records the
arrival and the receipt proves it. `access` lets staff in; `review` gives a reader the sealed case
under a signed opening; the reader's `client` verifies and opens it. Who spoke stays apart in the
`vault`, until custodians release it; `consent` ends whatever its witness ends. `api` is the shell around the
stages, `ops` keeps them alive, `app` puts them together, `cli` is how people reach it all.
"""
