"""`plan sync`: the plans of the subscriptions service, as JSON on standard input, mirrored to Stripe."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from pydantic import TypeAdapter, ValidationError

from rappen_contracts.stripe.v1 import StripePlan
from services.chassis.validation import configuration_faults
from services.payments.plans.mirror_plan import Drift, compare_plan, drift_lines, mirror_plan
from services.payments.settings import PaymentsSettings
from services.payments.stripe.gateway import StripeGateway

__all__ = ["run"]

_PLANS = TypeAdapter(list[StripePlan])


def run(settings: PaymentsSettings, arguments: Sequence[str]) -> int:
    """Makes what is missing, and reports what differs; with --replace that is replaced, too. Exit code 1 where
    something still differs."""
    parser = argparse.ArgumentParser(
        prog="rappen plan",
        description="The plan catalogue at Stripe: one product for each plan, with a price for members and one for"
        " feature instances. `sync` makes what is missing and reports what differs.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    sync = actions.add_parser("sync", help="make what is missing at Stripe, report what differs")
    sync.add_argument("--check", action="store_true", help="only report; make nothing")
    sync.add_argument(
        "--replace", action="store_true", help="new prices for what differs; running subscriptions keep theirs"
    )
    options = parser.parse_args(list(arguments))
    try:
        plans = _PLANS.validate_json(sys.stdin.buffer.read())
    except ValidationError as error:
        for place, text in configuration_faults(error):
            print(f"plans: {'.'.join(place)}: {text}", file=sys.stderr)
        return 2
    left = asyncio.run(_sync(settings, plans, check=options.check, replace=options.replace))
    for line in drift_lines(left):
        print(line)
    print(f"{len(plans)} plans, {len(left)} differences")
    return 1 if left else 0


async def _sync(settings: PaymentsSettings, plans: Sequence[StripePlan], *, check: bool, replace: bool) -> list[Drift]:
    api_key = settings.stripe.api_key
    stripe = StripeGateway(
        api_key.get_secret_value() if api_key is not None else None,
        api_base=settings.stripe.api_base,
        timeout_s=settings.stripe.timeout_s,
    )
    left: list[Drift] = []
    try:
        for plan in plans:
            drifts = await compare_plan(stripe, plan)
            # What is there and differs is the operator's to decide.
            if drifts and not check and (replace or all(each.found is None for each in drifts)):
                await mirror_plan(stripe, plan, also_name=True)
                drifts = await compare_plan(stripe, plan)
            left += drifts
    finally:
        await stripe.stop()
    return left
