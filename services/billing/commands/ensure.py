"""`ensure`: settings for every enabled mandate, an account for every enabled member. Safe to run again."""

import argparse
import asyncio
from collections.abc import Sequence

from services.billing.mandates.apply_directory import ApplyDirectory
from services.billing.settings import BillingSettings
from services.chassis.arguments import operator_database
from services.chassis.clock import platform_clock

__all__ = ["run"]


def run(settings: BillingSettings, arguments: Sequence[str]) -> int:
    """Prints how many members were looked at."""
    argparse.ArgumentParser(
        prog="rappen ensure",
        description="Gives every enabled mandate its settings and every enabled member an account; safe to run again.",
    ).parse_args(list(arguments))
    print(f"{asyncio.run(_ensure(settings))} members have their accounts")
    return 0


async def _ensure(settings: BillingSettings) -> int:
    async with operator_database(settings) as database:
        return await ApplyDirectory(database, clock=platform_clock(settings)).resync()
