# SPDX-License-Identifier: AGPL-3.0-or-later
"""How a command of a witness, a reviewer or an officer ends when it cannot finish its work."""


class ClientError(Exception):
    """Ends a command with an exit status, a stable slug and a sentence for a person."""

    exit_status = 2
    slug = "usage"

    def __init__(self, title: str, *, slug: str | None = None) -> None:
        self.slug = slug or type(self).slug
        self.title = title
        super().__init__(title)


class Refused(ClientError):
    """The server refused the request; slug and title are the problem's own."""

    exit_status = 1
    slug = "refused"


class Usage(ClientError):
    """What the person asked for cannot be done as asked; nothing was sent."""

    exit_status = 2
    slug = "usage"


class NotVerified(ClientError):
    """What was received does not verify; nothing of it was used."""

    exit_status = 3
    slug = "not-verified"


class NotChecked(NotVerified):
    """Something was not checked, as what it rests on does not hold or is not there; nothing is said against it."""

    slug = "not-checked"


class NetworkFailed(ClientError):
    """The server could not be reached or fell silent; what was sent so far is kept."""

    exit_status = 4
    slug = "network"
