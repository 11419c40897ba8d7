# SPDX-License-Identifier: AGPL-3.0-or-later
"""The published directory: TUF files as they are served, and which versions there were."""

from datetime import date

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from amana.storage.database import Base


class DirectoryFile(Base):
    """One file below `/v1/directory/`, byte for byte."""

    __tablename__ = "directory_files"

    name: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    content: Mapped[bytes]


class DirectoryVersion(Base):
    """One published version; its targets are the files below `versions/<version>/`."""

    __tablename__ = "directory_versions"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    published_on: Mapped[date]
