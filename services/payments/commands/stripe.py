"""`stripe events ...` and `stripe requests ...`: what came from Stripe, and what is asked of it."""

import argparse
import asyncio
from collections.abc import Sequence

from services.chassis.arguments import add_limit, operator_database
from services.payments.commands import events
from services.payments.requests.queries import list_requests
from services.payments.settings import PaymentsSettings

__all__ = ["run"]


def run(settings: PaymentsSettings, arguments: Sequence[str]) -> int:
    """Passes on to the events, or lists the requests."""
    parser = argparse.ArgumentParser(
        prog="rappen stripe", description="What came from Stripe, and what is asked of it."
    )
    subjects = parser.add_subparsers(dest="subject", required=True, metavar="SUBJECT")
    of_events = subjects.add_parser("events", help="the webhook events: list, show, retry")
    events.add_actions(of_events)
    of_requests = subjects.add_parser("requests", help="what other services ask to be done at Stripe, newest first")
    of_requests.add_argument("--unfinished", action="store_true", help="only what waits")
    add_limit(of_requests)
    options = parser.parse_args(list(arguments))
    if options.subject == "events":
        return events.act(settings, options)
    return asyncio.run(_requests(settings, unfinished=options.unfinished, limit=options.limit))


async def _requests(settings: PaymentsSettings, *, unfinished: bool, limit: int) -> int:
    async with operator_database(settings) as database, database.reading() as connection:
        rows = await list_requests(connection, unfinished=unfinished, limit=limit)
    for row in rows:
        state = row["outcome"] or f"WAITING until {row['next_attempt_at']:%Y-%m-%dT%H:%M:%SZ}"
        words = [str(row["request_id"]), row["topic"], row["mandate_id"], state, f"attempts={row['attempts']}"]
        print("  ".join(words + ([f"error={row['error']}"] if row["error"] else [])))
    if not rows:
        print("nothing waits" if unfinished else "nothing was asked for")
    return 0
