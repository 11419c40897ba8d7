# SPDX-License-Identifier: AGPL-3.0-or-later
"""All tables of all stages, gathered so that migrations and checks see the whole schema."""

import amana.access.models
import amana.consent.models
import amana.custody.models
import amana.directory.models
import amana.export.models
import amana.intake.models
import amana.replies.models
import amana.review.models
import amana.routing.models
import amana.scrub.models
import amana.vault.models  # noqa: F401
from amana.storage.database import Base

metadata = Base.metadata
