"""Usage that is too old for its mandate, from Kafka to its dead letter, and back once the mandate takes it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from services.billing.mandates.apply_directory import ApplyDirectory
from services.billing.mandates.change_settings import change_settings
from services.chassis.clock import system_clock
from services.chassis.database import Database
from tests.support.callers import system_admin
from tests.support.directory import directory_events
from tests.support.events import new_mandate, publish, usage_record
from tests.support.ledger import Books
from tests.support.processes import ServiceProcess, run_command
from tests.support.stack import ServerPair
from tests.support.topics import all_read
from tests.support.waiting import eventually


async def _set(database: Database, mandate: str, **settings: Any) -> None:
    await change_settings(database, mandate, settings, caller=system_admin(), clock=system_clock, amount_max=Decimal(1))


async def test_usage_that_is_too_old_is_charged_when_it_is_replayed_under_another_policy(
    servers: ServerPair, bootstrap_servers: str, worker: ServiceProcess, database: Database, books: Books
) -> None:
    mandate, now = new_mandate(), datetime.now(UTC)
    await ApplyDirectory(database, clock=system_clock)(directory_events(mandate, {"user-1": ["member"]}), [])
    await _set(database, mandate, lateEvents="refuse", lateEventDays=3)
    old = [usage_record(mandate, at=now - timedelta(days=3, minutes=number)) for number in range(1, 4)]
    good = [usage_record(mandate, at=now - timedelta(days=2, minutes=number)) for number in range(4)]
    await publish(bootstrap_servers, [*old, *good])
    await books.wait_charged([mandate], 4)

    async def refused() -> bool:
        return await books.refused(mandate) == {"LATE_EVENT": 3}

    await eventually(refused, what="the refusals")
    await _set(database, mandate, lateEvents="own")
    numbers = [
        str(row["id"]) for row in await books.fetch("SELECT id FROM quarantine WHERE key = $1", mandate.encode())
    ]
    replayed = run_command(servers, "billing", "dlq", "replay", *numbers)
    assert replayed.stdout == "3 records replayed\n", replayed.stderr
    await books.wait_charged([mandate], 7)
    await eventually(lambda: all_read(bootstrap_servers, "usage.recorded", "billing"), what="the end of the topic")
    await books.letters_relayed()
    await books.settled([mandate], [record.event_id for record in (*old, *good)])
