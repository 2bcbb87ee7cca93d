"""`payments --since TIME`: which payments were credited and which refunds taken back, for comparing with Stripe."""

import argparse
import asyncio
import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from services.billing.credits.queries import list_payment_credits, list_payment_refunds
from services.billing.money import from_micro
from services.billing.settings import BillingSettings
from services.chassis.arguments import operator_database, point_in_time

__all__ = ["run"]


def run(settings: BillingSettings, arguments: Sequence[str]) -> int:
    """Prints them as JSON: CHF by the reference of the payment, of which an invoice may have several, and by the id of
    the refund."""
    parser = argparse.ArgumentParser(
        prog="rappen payments", description="Payments credited and refunds taken back, as JSON."
    )
    parser.add_argument("--since", required=True, type=point_in_time, metavar="TIME", help="booked from then on")
    given = parser.parse_args(list(arguments))
    print(json.dumps(asyncio.run(_read(settings, given.since)), indent=2))
    return 0


async def _read(settings: BillingSettings, since: datetime) -> dict[str, Any]:
    async with operator_database(settings) as database, database.reading() as connection:
        credited = await list_payment_credits(connection, since=since)
        taken = await list_payment_refunds(connection, since=since)
    by_reference: defaultdict[str, list[str]] = defaultdict(list)
    for reference, amount in credited:
        by_reference[reference].append(str(from_micro(amount)))
    return {
        "credits": by_reference,
        "refunds": {refund_id: str(from_micro(abs(amount))) for refund_id, amount in taken},
    }
