"""`reconcile [--from TIME] [--to TIME] [--apply] [--json]`: what differs between Stripe, payments and, where their own
commands were asked, the ledger and the subscriptions service."""

import argparse
import asyncio
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from services.chassis.arguments import operator_database, point_in_time
from services.chassis.clock import platform_clock
from services.chassis.problems import Problem
from services.payments.reconciliation.domain import Others, Window
from services.payments.reconciliation.reconcile import PAST, Finding, Reconcile
from services.payments.settings import PaymentsSettings
from services.payments.stripe.gateway import StripeGateway

__all__ = ["run"]


def run(settings: PaymentsSettings, arguments: Sequence[str]) -> int:
    """Prints every difference with its Stripe id; exit code 0 when none is left, else 1."""
    parser = _parser()
    given = parser.parse_args(list(arguments))
    now = platform_clock(settings)()
    window = Window(given.from_time or now - PAST, given.to_time or now)
    if window.end <= window.start:
        parser.error("argument --to: a time after --from is needed")
    try:
        findings = asyncio.run(_reconcile(settings, window, _others(given), apply=given.apply))
    except Problem as problem:
        print(f"reconcile: {problem.detail('en')}")
        return 1
    if given.json:
        print(json.dumps(_document(window, findings), indent=2))
    else:
        _print(findings)
    return 0 if all(each.healed for each in findings) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rappen reconcile",
        description="Compares Stripe's payments, refunds and subscriptions with the platform's records and lists every"
        " difference. With --apply those are healed that need no decision.",
        # `rappen reconcile` reads --from too, and would not know it cut short.
        allow_abbrev=False,
    )
    parser.add_argument(
        "--from", dest="from_time", type=point_in_time, metavar="TIME", help="from then on (3 days ago)"
    )
    parser.add_argument("--to", dest="to_time", type=point_in_time, metavar="TIME", help="and before then (now)")
    parser.add_argument("--apply", action="store_true", help="heal what is safe; without it nothing is changed")
    parser.add_argument("--json", action="store_true", help="the answer for a program")
    parser.add_argument("--ledger", type=Path, metavar="FILE", help="what billing's command `payments` has answered")
    parser.add_argument(
        "--subscriptions", type=Path, metavar="FILE", help="what the command `records` of subscriptions has answered"
    )
    return parser


def _others(given: argparse.Namespace) -> Others:
    ledger = None if given.ledger is None else json.loads(given.ledger.read_bytes())
    records = None if given.subscriptions is None else json.loads(given.subscriptions.read_bytes())
    return Others(
        credits=None
        if ledger is None
        else {reference: [Decimal(each) for each in parts] for reference, parts in ledger["credits"].items()},
        refunds=None if ledger is None else _amounts(ledger["refunds"]),
        statuses=None if records is None else {each["subscriptionId"]: each["status"] for each in records["items"]},
    )


def _amounts(entries: dict[str, str]) -> dict[str, Decimal]:
    return {reference: Decimal(amount) for reference, amount in entries.items()}


async def _reconcile(settings: PaymentsSettings, window: Window, others: Others, *, apply: bool) -> Sequence[Finding]:
    api_key = settings.stripe.api_key
    stripe = StripeGateway(
        api_key.get_secret_value() if api_key is not None else None,
        api_base=settings.stripe.api_base,
        timeout_s=settings.stripe.timeout_s,
    )
    try:
        async with operator_database(settings) as database:
            reconcile = Reconcile(database, stripe, clock=platform_clock(settings))
            return await reconcile(window, others, apply=apply)
    finally:
        await stripe.stop()


def _document(window: Window, findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "from": window.start.isoformat(),
        "to": window.end.isoformat(),
        "differences": [
            {
                "kind": each.difference.kind.value,
                "stripeId": each.difference.stripe_id,
                "mandateId": each.difference.mandate_id,
                "detail": each.difference.detail,
                "safe": each.difference.is_safe,
                "healed": each.healed,
            }
            for each in findings
        ],
    }


def _print(findings: Sequence[Finding]) -> None:
    for each in findings:
        difference = each.difference
        state = "healed" if each.healed else ("can be healed" if difference.is_safe else "needs a decision")
        words = [difference.kind.value, difference.stripe_id, difference.mandate_id or "-", difference.detail, state]
        print("  ".join(words))
    left = sum(not each.healed for each in findings)
    print(f"{len(findings)} differences, {left} left")
