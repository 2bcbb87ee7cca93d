"""`events`: list the stored webhook events, show one, and have events processed again."""

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from services.chassis.arguments import add_limit, operator_database, utf8_text
from services.chassis.clock import platform_clock
from services.payments.inbox.queries import find_event, list_events
from services.payments.inbox.repository import reopen_events
from services.payments.settings import PaymentsSettings

__all__ = ["act", "add_actions", "run"]


def run(settings: PaymentsSettings, arguments: Sequence[str]) -> int:
    """`events list [--unfinished] [--limit N]`, `events show EVENT_ID` and `events retry EVENT_ID...`."""
    parser = argparse.ArgumentParser(prog="rappen events", description="The webhook events that Stripe has delivered.")
    add_actions(parser)
    return act(settings, parser.parse_args(list(arguments)))


def add_actions(parser: argparse.ArgumentParser) -> None:
    """Adds what can be done with events."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="the newest stored events of Stripe's")
    listing.add_argument("--unfinished", action="store_true", help="only what waits, fails or was set aside")
    add_limit(listing)
    showing = actions.add_parser("show", help="one stored event, with what Stripe sent")
    showing.add_argument("event_id", type=utf8_text, metavar="ID", help="as in the list: evt_...")
    retry = actions.add_parser("retry", help="have stored events processed again, now")
    retry.add_argument("event_id", type=utf8_text, nargs="+", metavar="ID", help="as in the list: evt_...")


def act(settings: PaymentsSettings, options: argparse.Namespace) -> int:
    """Does what was asked for."""
    if options.action == "list":
        return asyncio.run(_list(settings, unfinished=options.unfinished, limit=options.limit))
    if options.action == "show":
        return asyncio.run(_show(settings, options.event_id))
    return asyncio.run(_retry(settings, options.event_id))


async def _show(settings: PaymentsSettings, event_id: str) -> int:
    async with operator_database(settings) as database, database.reading() as connection:
        row = await find_event(connection, event_id)
    if row is None:
        print(f"{event_id}  is not stored")
        return 1
    print(_line(row))
    print(bytes(row["payload"]).decode("utf-8", "replace"))
    return 0


async def _list(settings: PaymentsSettings, *, unfinished: bool, limit: int) -> int:
    async with operator_database(settings) as database, database.reading() as connection:
        rows = await list_events(connection, unfinished=unfinished, limit=limit)
    for row in rows:
        print(_line(row))
    if not rows:
        print("no event of Stripe's waits or failed" if unfinished else "no event of Stripe's is stored")
    return 0


def _line(row: Mapping[str, Any]) -> str:
    state = row["outcome"] or f"WAITING until {row['next_attempt_at']:%Y-%m-%dT%H:%M:%SZ}"
    words = [row["event_id"], row["type"], row["object_id"] or "-", f"{row['received_at']:%Y-%m-%dT%H:%M:%SZ}", state]
    words += [f"attempts={row['attempts']}"] + ([f"error={row['error']}"] if row["error"] else [])
    return "  ".join(words)


async def _retry(settings: PaymentsSettings, event_ids: Sequence[str]) -> int:
    async with operator_database(settings) as database, database.transaction() as connection:
        reopened = await reopen_events(connection, event_ids, platform_clock(settings)())
    for event_id in event_ids:
        print(f"{event_id}  {'is processed again' if event_id in reopened else 'is not stored'}")
    return 0 if set(reopened) == set(event_ids) else 1
