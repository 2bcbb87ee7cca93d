"""`reverse MANDATE EVENT_ID --reason TEXT`: cancels a usage event and takes back what it was charged."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from uuid import UUID

from pydantic_core import PydanticCustomError

from rappen_contracts.types import parse_uuid
from services.billing.corrections.errors import TransactionNamedError
from services.billing.corrections.reverse_charge import Cancelled, cancel_event
from services.billing.ledger.errors import BalanceOutOfRange
from services.billing.mandates.errors import MandateUnknown
from services.billing.settings import BillingSettings
from services.chassis.arguments import operator_database, utf8_text
from services.chassis.clock import platform_clock

__all__ = ["run"]

REASON_LENGTH_MAX = 500

_SAID = {
    "free": "nothing to take back: the usage was free",
    "unpriced": "nothing to take back: the usage waited for a price, and does not any more",
    "awaited": "no such usage has arrived yet: what it is charged will be taken back at once",
}


def run(settings: BillingSettings, arguments: Sequence[str]) -> int:
    """Prints what became of the usage; 1 where nothing could be done."""
    given = _parser().parse_args(list(arguments))
    try:
        done = asyncio.run(_cancel(settings, given))
    except (MandateUnknown, BalanceOutOfRange) as error:
        print(f"{given.mandate}: {error.detail('en')}", file=sys.stderr)
        return 1
    except TransactionNamedError as named:
        print(f"{given.event_id}: {_named(named)}", file=sys.stderr)
        return 1
    print(_said(done))
    if not done.new:
        print(f"it was cancelled before: {done.reason}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rappen reverse",
        description="Cancels a usage event, also one that has not arrived, and takes back what it was charged: once,"
        " by a transaction of its own.",
    )
    parser.add_argument("mandate", type=utf8_text, metavar="MANDATE", help="the mandate's id")
    parser.add_argument("event_id", metavar="EVENT_ID", type=_event_id, help="the id of the usage event, its ce_id")
    parser.add_argument(
        "--reason", required=True, type=_reason, metavar="TEXT", help="why; it is kept with the transaction"
    )
    return parser


def _event_id(text: str) -> UUID:
    try:
        return parse_uuid(text)
    except PydanticCustomError as error:
        raise argparse.ArgumentTypeError(error.message()) from None


def _reason(text: str) -> str:
    utf8_text(text)
    if not text.strip() or len(text) > REASON_LENGTH_MAX:
        raise argparse.ArgumentTypeError(f"text of 1 to {REASON_LENGTH_MAX} characters is needed")
    return text


async def _cancel(settings: BillingSettings, given: argparse.Namespace) -> Cancelled:
    async with operator_database(settings) as database:
        return await cancel_event(database, given.mandate, given.event_id, given.reason, clock=platform_clock(settings))


def _said(done: Cancelled) -> str:
    if done.transaction is None:
        return _SAID[done.state]
    return f"taken back: {done.transaction['amount']:f} CHF, by transaction {done.transaction['id']}"


def _named(named: TransactionNamedError) -> str:
    if named.charged is None:
        return "this is a transaction that is no charge of usage; nothing was done"
    return f"this is a transaction, not a usage event; the event that it charged is {named.charged}; nothing was done"
