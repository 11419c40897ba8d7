# SPDX-License-Identifier: AGPL-3.0-or-later
"""How a format refuses its input: one error with a stable slug and a sentence, and never the input itself."""


class ProtocolError(ValueError):
    """What was given does not have the form that docs/protocol.md demands.

    `slug` is stable and may be shown to machines, `title` is a sentence about the reader's data.
    """

    slug = "malformed"
    title = "This does not have the expected form."

    def __init__(self, slug: str | None = None, title: str | None = None) -> None:
        self.slug = slug or type(self).slug
        self.title = title or type(self).title
        super().__init__(self.title)


class NotSealed(ProtocolError):
    """A sealed object lacks the one form that docs/protocol.md §2 allows."""

    slug = "not-sealed"
    title = "This is not sealed in the only form that is accepted."


class CannotOpen(ProtocolError):
    """A sealed object does not open with this identity, or was altered."""

    slug = "cannot-open"
    title = "This does not open with the key at hand."


class BadSignature(ProtocolError):
    """A signature does not verify."""

    slug = "bad-signature"
    title = "The signature does not verify."
