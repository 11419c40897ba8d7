# SPDX-License-Identifier: AGPL-3.0-or-later
"""The only place where stages, extensions and configuration meet."""

from datetime import UTC, datetime
from enum import StrEnum

from flask import Flask

from amana.access import routes as access
from amana.access.tokens import register_tokens
from amana.api import openapi
from amana.api.headers import register_headers
from amana.api.problems import ProblemApi, register_problems
from amana.api.secrets import load_secrets
from amana.api.services import Services
from amana.config import Config
from amana.consent import routes as consent
from amana.custody import routes as custody
from amana.directory import routes as directory
from amana.export import routes as export
from amana.intake import routes as intake
from amana.intake.writers import Writers
from amana.ops import health
from amana.people import routes as people
from amana.replies import routes as replies
from amana.retention import routes as retention
from amana.review import routes as review
from amana.routing import routes as routing
from amana.storage.database import Database
from amana.storage.stores import make_blobs
from amana.vault import routes as vault


class Surface(StrEnum):
    """Which of the two applications is served: the public one, that of staff, or both."""

    INTAKE = "intake"
    DESK = "desk"
    ALL = "all"


BLUEPRINTS = {
    Surface.INTAKE: (
        intake.admission,
        intake.testimonies,
        intake.resumable,
        consent.control,
        replies.drop,
        directory.directory,
        custody.logs,
    ),
    # Staff's clients verify the directory and the logs too, and speak to the desk only.
    Surface.DESK: (
        access.sessions,
        access.signing_out,
        directory.directory,
        access.directory_publication,
        custody.logs,
        review.cases,
        replies.asking,
        routing.routing,
        vault.releases,
        retention.retention,
        export.exports,
        consent.histories,
        people.people,
        people.enrolling,
    ),
}


def make_services(config: Config, *, create_secrets: bool = False) -> Services:
    """Build what the stages are given, from the configuration alone."""
    return Services(
        config=config,
        database=Database(config.database_url),
        blobs=make_blobs(config),
        secrets=load_secrets(config.secrets, create=create_secrets),
        clock=lambda: datetime.now(UTC),
    )


def create_app(services: Services, surface: Surface = Surface.ALL) -> Flask:
    """Build one of the two applications, or both in one."""
    app = Flask("amana", static_folder=None)
    app.config.update(
        API_TITLE="Amana",
        API_VERSION="1",
        OPENAPI_VERSION="3.1.0",
        MAX_CONTENT_LENGTH=64 * 1024,
        TRUSTED_HOSTS=list(services.config.trusted_hosts) or None,
        PROPAGATE_EXCEPTIONS=False,
        # No browser is to ask from another site; where OPTIONS means something, a route says so.
        PROVIDE_AUTOMATIC_OPTIONS=False,
    )
    app.extensions["amana"] = services
    app.extensions["amana.writers"] = Writers(services.database)
    api = ProblemApi(app, spec_kwargs=openapi.options())
    app.extensions["amana.api"] = api
    register_problems(app)
    register_headers(app)
    if surface is not Surface.INTAKE:
        register_tokens(app, services)
    parts = (Surface.INTAKE, Surface.DESK) if surface is Surface.ALL else (surface,)
    for blueprint in dict.fromkeys(one for part in parts for one in BLUEPRINTS[part]):
        api.register_blueprint(blueprint)
    api.register_blueprint(health.health)
    if surface is not Surface.INTAKE:
        openapi.register_docs(app)
    return app
