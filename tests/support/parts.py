"""Components of a service (consumers, relays, jobs) at work in the process of the tests."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from services.chassis.clock import system_clock
from services.chassis.consumer import Consumer, Handler, Received
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.health import Health
from services.chassis.process import Component
from services.chassis.quarantine import Refused
from services.chassis.settings import KafkaSettings

__all__ = ["at_work", "no_batch", "usage_consumer"]


@asynccontextmanager
async def at_work(*components: Component) -> AsyncIterator[None]:
    """Runs them during the block and ends them in good order; raises what they raised."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(component.run(stop), name=component.name) for component in components]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def no_batch(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
    """The handler of a consumer that is to read nothing."""
    raise AssertionError("a batch was read")


def usage_consumer(
    bootstrap_servers: str,
    database: Database,
    handler: Handler,
    *,
    group: str | None = None,
    health: Health | None = None,
    **settings: Any,
) -> Consumer:
    """A consumer of usage.recorded, in a group of its own unless one is named; settings are those of Kafka."""
    return Consumer(
        KafkaSettings(bootstrap_servers=bootstrap_servers, **settings),
        client_id="tests",
        group=group or f"tests-{uuid4()}",
        topic="usage.recorded",
        handler=handler,
        database=database,
        clock=system_clock,
        faults=FaultPoints(None),
        health=health or Health(),
    )
