"""Re-ratings without a worker: ordered, and carried out to their end."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from services.billing.corrections.charges import Selection
from services.billing.corrections.rerate import show_rerating, start_rerating
from services.billing.corrections.run_reratings import RunReratings
from services.chassis.clock import system_clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints

__all__ = ["carry_out", "of_model", "rerate", "running"]

FROM, TO = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


def of_model(model: str | None, *, provider: str | None = None) -> Selection:
    """All charges of a model in the year of the tests."""
    return Selection(FROM, TO, provider, model)


def running(database: Database) -> RunReratings:
    """What a worker's job does."""
    return RunReratings(database, clock=system_clock, faults=FaultPoints(None))


async def rerate(database: Database, selection: Selection) -> dict[str, Any]:
    """A re-rating from its order to its end, and what it came to."""
    ordered = await start_rerating(database, selection, user_id=None, clock=system_clock)
    return await carry_out(database, ordered["id"])


async def carry_out(database: Database, rerating_id: str) -> dict[str, Any]:
    """An ordered re-rating to its end, whoever else works on it."""
    run = running(database)
    while True:
        await run(UUID(rerating_id))
        answer = await show_rerating(database, rerating_id)
        if answer["state"] == "DONE":
            return answer
