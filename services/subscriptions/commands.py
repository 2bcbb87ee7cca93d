"""The operator's commands: the plans that need Stripe, and what is known of subscriptions there, both as JSON for the
commands of payments; and dead letters."""

import argparse
import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rappen_contracts.stripe.v1 import StripePlan
from rappen_contracts.types import NonNegativeMoney
from services.chassis import dead_letters
from services.chassis.arguments import operator_database
from services.subscriptions.plans.catalogue import read_catalogue
from services.subscriptions.plans.domain import Plan
from services.subscriptions.settings import SubscriptionsSettings
from services.subscriptions.stripe.queries import list_statuses

__all__ = ["COMMANDS"]

CURRENCY = "CHF"


def _plans(settings: SubscriptionsSettings, arguments: Sequence[str]) -> int:
    """Prints the plans that are paid through Stripe, as contracts have them."""
    parser = argparse.ArgumentParser(
        prog="rappen plans", description="The plans that are paid through Stripe, as JSON."
    )
    parser.parse_args(list(arguments))
    plans = [_form(plan) for plan in read_catalogue(settings.plans_file).plans if plan.requires_stripe]
    print(json.dumps([plan.model_dump(mode="json") for plan in plans], indent=2))
    return 0


def _form(plan: Plan) -> StripePlan:
    return StripePlan(
        key=plan.key,
        label_de=plan.label_de,
        label_en=plan.label_en,
        price_per_user=NonNegativeMoney(amount=plan.price_per_user, currency=CURRENCY),
        price_per_feature_instance=NonNegativeMoney(amount=plan.price_per_feature_instance, currency=CURRENCY),
        billing_period=plan.billing_period,
    )


def _records(settings: SubscriptionsSettings, arguments: Sequence[str]) -> int:
    """Prints in which status each subscription at Stripe was last seen."""
    parser = argparse.ArgumentParser(
        prog="rappen records", description="Subscriptions as last seen at Stripe, as JSON."
    )
    parser.parse_args(list(arguments))
    print(json.dumps({"items": asyncio.run(_statuses(settings))}, indent=2))
    return 0


async def _statuses(settings: SubscriptionsSettings) -> list[dict[str, Any]]:
    async with operator_database(settings) as database, database.reading() as connection:
        rows = await list_statuses(connection)
    return [{"subscriptionId": str(subscription_id), "status": status} for subscription_id, status in rows]


COMMANDS: Mapping[str, Callable[[SubscriptionsSettings, Sequence[str]], int]] = {
    "dlq": dead_letters.run,
    "plans": _plans,
    "records": _records,
}
