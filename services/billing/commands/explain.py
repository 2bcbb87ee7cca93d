"""`explain TRANSACTION_ID [--json]`: what a transaction came from, from the event to the amount."""

import argparse
import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from services.billing.reports.errors import TransactionUnknown
from services.billing.reports.explain_transaction import explain_transaction
from services.billing.reports.scope import Scope
from services.billing.settings import BillingSettings
from services.chassis.arguments import operator_database
from services.chassis.caller import Caller
from services.chassis.exact_json import ExactJsonResponse

__all__ = ["run"]

Json = Mapping[str, Any]
# Who may see every row.
_OPERATOR = Caller(user_id="operator", system_admin=True)


def run(settings: BillingSettings, arguments: Sequence[str]) -> int:
    """Prints the explanation; 1 where there is no such transaction."""
    parser = argparse.ArgumentParser(
        prog="rappen explain", description="What a transaction came from: event, price, rate, markup, rounding."
    )
    parser.add_argument("transaction", metavar="TRANSACTION_ID", help="the transaction's id")
    parser.add_argument("--json", action="store_true", help="the answer for a program")
    given = parser.parse_args(list(arguments))
    try:
        explanation = asyncio.run(_explain(settings, given.transaction))
    except TransactionUnknown as error:
        print(f"{given.transaction}: {error.detail('en')}", file=sys.stderr)
        return 1
    if given.json:
        print(bytes(ExactJsonResponse(explanation).body).decode())
        return 0
    for line in _lines(explanation):
        print("".join(character if character.isprintable() else "?" for character in line))
    return 0


async def _explain(settings: BillingSettings, transaction: str) -> dict[str, Any]:
    async with operator_database(settings) as database:
        return await explain_transaction(database, Scope.of(_OPERATOR), transaction)


def _lines(it: Json) -> Iterator[str]:
    row = it["transaction"]
    yield f"transaction    {row['id']}  {row['transactionType']} {row['referenceType']}  {it['amount']} CHF"
    yield f"               {row['description']}"
    yield f"mandate        {row['mandateId']}  recorded {row['recordedAt']:%Y-%m-%dT%H:%M:%SZ}"
    yield from _event_lines(it["event"])
    yield from _price_lines(it)
    for posting in it["postings"]:
        owner = f" of {posting['userId']}" if posting["userId"] else ""
        after = "" if posting["balanceAfter"] is None else f", balance after {posting['balanceAfter']}"
        account = f"account {posting['accountId']} ({posting['accountType']}{owner})"
        yield f"posting        {posting['amount']} on {account} against {posting['contraAccount']}{after}"
    for grant in it["grants"]:
        until = "" if grant["expiresAt"] is None else f", until {grant['expiresAt']:%Y-%m-%dT%H:%M:%SZ}"
        yield f"grant          {grant['amount']} of {grant['kind']} {grant['grantId']} ({grant['description']}{until})"
    if it["hold"] is not None:
        yield f"hold           {it['hold']['holdId']} of {it['hold']['amount']} CHF"
    if it["payment"] is not None:
        yield from _payment_lines(it["payment"])
    for correction in it["corrections"]:
        yield f"corrected by   {correction['transactionId']}  {correction['amount']} CHF  {correction['description']}"
    if it["corrects"] is not None:
        yield f"corrects       {it['corrects']['transactionId']}  {it['corrects']['amount']} CHF"
    if it["fault"] is not None:
        yield f"FAULT          {it['fault']}"


def _event_lines(event: Json | None) -> Iterator[str]:
    if event is None:
        return
    yield f"event          {event['id']}  {event['time']:%Y-%m-%dT%H:%M:%S.%fZ}  {event['kind']} of {event['user_id']}"
    if event["provider"] is not None:
        yield f"model          {event['provider']} {event['model']}"
    for name in ("tokens", "quantities", "conditions"):
        if event[name]:
            yield f"{name:<14} {', '.join(f'{kind} {count}' for kind, count in event[name].items())}"
    if event["service_tier"] is not None:
        yield f"tier           {event['service_tier']}"


def _payment_lines(payment: Json) -> Iterator[str]:
    credited = "not credited" if payment["amount"] is None else f"{payment['amount']} CHF in all"
    yield f"payment        {payment['reference']}, {credited}"
    if payment["refund"] is not None:
        yield f"refund         {payment['refund']['refundId']}, {payment['refund']['amount']} CHF in all"
    if payment["recharge"] is not None:
        yield f"recharge       {payment['recharge']['rechargeId']} of {payment['recharge']['amount']} CHF"


def _storage_lines(storage: Json) -> Iterator[str]:
    begin, end = (f"{storage[name]:%Y-%m-%dT%H:%M:%SZ}" for name in ("periodStart", "periodEnd"))
    yield f"storage        of subscription {storage['subscriptionId']}, {begin} to {end}"
    included = "all" if storage["includedMb"] is None else f"{storage['includedMb']} MB"
    yield f"peak           {storage['peakBytes']} bytes, {included} included, {storage['chargedBytes']} charged"
    terms = f"{storage['chargedBytes']} / 10^9 x {storage['pricePerGbMonth']} x {storage['months']} months"
    shared = "" if storage["sharedBy"] in (None, 1) else f", shared by {storage['sharedBy']}"
    yield f"period price   {terms} = {storage['exactPrice']} CHF{shared}"


def _price_lines(it: Json) -> Iterator[str]:
    for version in it["priceVersions"]:
        yield f"price version  {version['id']}, valid from {version['validFrom']:%Y-%m-%dT%H:%M:%SZ}"
    for line in it["lines"]:
        priced_as = f"  (priced {line['pricedAs']})" if line["pricedAs"] else ""
        terms = f"{line['count']} {line['component']} x {line['unitPrice']} x {line['factor']}"
        yield f"line           {terms} = {line['cost']}{priced_as}"
    if it["baseCost"] is not None:
        yield f"base cost      {it['baseCost']['amount']} {it['baseCost']['currency']}"
    if it["rate"] is not None:
        stored = it["storedRate"]
        since = "" if stored is None else f", rate {stored['id']}, valid from {stored['validFrom']:%Y-%m-%dT%H:%M:%SZ}"
        yield f"rate           {it['rate']} CHF{since}"
        yield f"markup         {it['markupPercent']} %"
    if it["storage"] is not None:
        yield from _storage_lines(it["storage"])
    if it["exactPrice"] is not None:
        yield f"exact price    {it['exactPrice']} CHF"
    charged, correction = it["exactPrice"], it["correction"]
    if correction is not None:
        charged = correction["difference"]
        prices = f"{correction['newExactPrice']} - {correction['oldExactPrice']} = {charged}"
        yield f"correction {correction['number']:<3} {prices} CHF, by re-rating {correction['reratingId']}"
    if it["rounding"] is not None:
        rounding = it["rounding"]
        yield f"rounding       {it['carryBefore']} + {charged} = {rounding['unrounded']}"
        yield f"               rounded {rounding['rounded']}, carried {it['carryAfter']}"
