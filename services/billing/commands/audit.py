"""`audit [--json]`: whether the books add up and agree with what was published; exit code 1 when anything fails."""

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence

from aiokafka.errors import KafkaError

from services.billing.audit import AuditCheck, audit, read_published
from services.billing.settings import BillingSettings
from services.chassis.arguments import operator_database
from services.chassis.clock import platform_clock
from services.chassis.database import driver_connection

__all__ = ["run"]


def run(settings: BillingSettings, arguments: Sequence[str]) -> int:
    """Prints every check with the number of accounts looked at and those that fail."""
    parser = argparse.ArgumentParser(prog="rappen audit", description="Checks the books; exit code 1 if a check fails.")
    parser.add_argument("--json", action="store_true", help="the answer for a program")
    given = parser.parse_args(list(arguments))
    checks = asyncio.run(_audit(settings))
    failing = sum(check.failing_count for check in checks)
    if given.json:
        print(json.dumps(_document(checks), indent=2))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{check.name:<{width}} {check.looked_at:>9} looked at   {check.failing_count:>6} failing")
            for entry in check.failing:
                print(f"           {_line(entry)}")
        print("the books add up" if not failing else f"{failing} failures")
    return 1 if failing else 0


def _line(entry: Mapping[str, str | None]) -> str:
    """What is wrong, after the mandate and the account, of which some checks are about neither."""
    named = (("mandate", entry["mandateId"]), ("account", entry["accountId"]))
    place = "  ".join(f"{word} {value}" for word, value in named if value is not None)
    return f"{place}: {entry['detail']}" if place else str(entry["detail"])


async def _audit(settings: BillingSettings) -> list[AuditCheck]:
    async with operator_database(settings) as database, database.reading() as connection:
        try:
            published = await read_published(settings.kafka, now=platform_clock(settings)())
        except (KafkaError, OSError, TimeoutError) as error:
            # The books can be checked all the same. That they agree with the topic is not shown, so that check fails.
            return [*await audit(driver_connection(connection)), _topic_unreadable(error)]
        return await audit(driver_connection(connection), published)


def _topic_unreadable(error: Exception) -> AuditCheck:
    detail = f"published balances cannot be read from the broker: {type(error).__name__}"
    return AuditCheck("published", 0, 1, [{"mandateId": None, "accountId": None, "detail": detail}])


def _document(checks: Sequence[AuditCheck]) -> dict[str, object]:
    return {
        "ok": not any(check.failing_count for check in checks),
        "checks": [
            {
                "check": check.name,
                "accounts": check.looked_at,
                "failing": check.failing_count,
                "failures": check.failing,
            }
            for check in checks
        ],
    }
