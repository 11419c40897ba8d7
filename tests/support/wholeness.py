"""What people did, in whatever order, is no damage: everything that is stored is what was signed about it."""

import sqlalchemy as sa

from amana.intake.models import Testimony
from amana.scrub import scrubbing, service
from amana.scrub.models import Damage
from tests.support.organisation import Organisation


def check_everything(organisation: Organisation) -> int:
    """Read everything that is stored of received testimonies, and see that it is whole; returns how many there are."""
    services, today = organisation.services, organisation.services.today()
    keys = scrubbing._custody_keys(services)
    with services.database.reading() as session:
        query = sa.select(Testimony.case).where(Testimony.checked_on.is_not(None))
        cases = session.scalars(query).all()
        objects = service.objects_due(session, today, None)
    for case in cases:
        with services.database.transaction() as session:
            assert service.check_case(session, case, keys, today) is not None
    for one in objects:
        assert scrubbing._check_object(services, one)
    with services.database.reading() as session:
        damages = session.scalars(sa.select(Damage).where(Damage.mended_on.is_(None)))
        assert {(one.part.split()[0], one.fault) for one in damages} == set()
    return len(cases)
