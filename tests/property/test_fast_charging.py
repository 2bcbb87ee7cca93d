"""A charge is the same in the fast form and in the published one: prices to the last digit, rows byte for byte.

`make fuzz` runs it with many more examples.
"""

from collections.abc import Sequence
from decimal import Decimal
from random import Random
from typing import Any

from rappen_contracts import decode
from services.billing.charging.charge_usage import PricingContext, split_by_price
from services.billing.charging.usage_events import Usage, reader
from services.billing.ledger.calendars import Calendar
from services.billing.ledger.domain import LockedAccount
from services.billing.ledger.keys import ChargeKeys
from services.billing.ledger.write_postings import PreparedPostings, move_accounts
from services.billing.mandates.domain import Terms
from services.billing.money import Exact, Markup, exact
from services.billing.pricing import PriceBook, Rate, RateTable
from services.billing.pricing.quotes import Quotes
from services.billing.pricing.rating import Tariff
from tests.support.events import RawRecord
from tests.support.examples import many
from tests.support.priced_usage import (
    NOW,
    any_number,
    any_record,
    any_tariff,
    fitting_record,
    is_accepted,
    version_with_windows,
)
from tests.support.records import arrived_record


def _published(record: RawRecord) -> Usage:
    arrived = arrived_record("usage.recorded", record)
    return Usage.of(decode(arrived.headers, arrived.value, now=NOW), arrived)


def _charged(
    usages: Sequence[Usage], tariff: Tariff, markup: Decimal, remainder: Exact
) -> tuple[PreparedPostings, list[Any]]:
    calendar = Calendar("Europe/Zurich")
    terms = Terms(1, "PREPAY_MANDATE", Markup.of(markup), calendar, 0, has_unposted=False, has_cancellations=False)
    for usage in usages:
        usage.keys = ChargeKeys(1, 2, 3, 4, 5)
    postings, unposted, _ = split_by_price(usages, PricingContext({1: terms}, tariff, Quotes(tariff)), NOW, {})
    account = LockedAccount(1, 3, "MANDATE", None, 10**12, 0, remainder, 7)
    return move_accounts(postings, {3: account}, {}, {1: terms.calendar}, NOW), unposted


@many(1_500)
def _charged_the_same(random: Random) -> None:
    tariff, markup = any_tariff(random), random.choice([Decimal(0), Decimal(50), any_number(random, (2, 23))])
    remainder = random.choice(
        [Decimal(0), Decimal("1E-30"), Decimal(random.randrange(-(10**18), 10**18)).scaleb(-24) / 2]
    )
    batch = [record for _ in range(random.randrange(1, 9)) if is_accepted(record := any_record(random))]
    read = reader(NOW)
    fast = [read(arrived_record("usage.recorded", record)) for record in batch]
    published = [_published(record) for record in batch]
    ones, others = (
        _charged(fast, tariff, markup, exact(remainder)),
        _charged(published, tariff, markup, exact(remainder)),
    )
    assert ones[1] == others[1]
    assert ones[0].rows == others[0].rows
    assert ones[0].rollups == others[0].rollups
    account, other = ones[0].accounts[3], others[0].accounts[3]
    assert (account.balance, account.seq, account.moved) == (other.balance, other.seq, other.moved)
    assert account.rounding_remainder == other.rounding_remainder
    SEEN["fast"] += sum(1 for usage in fast if usage.event is None)
    SEEN["published"] += sum(1 for usage in fast if usage.event is not None)
    SEEN["charged"] += len(ones[0].rows)


@many(300)
def _charged_the_same_in_windows(random: Random) -> None:
    version = version_with_windows(random)
    tariff = Tariff(1, PriceBook([version]), RateTable([Rate("USD", version.valid_from, Decimal("0.8"), "0")]))
    batch = [record for _ in range(4) if is_accepted(record := fitting_record(random, version))]
    read = reader(NOW)
    fast = [read(arrived_record("usage.recorded", record)) for record in batch]
    ones = _charged(fast, tariff, Decimal(50), exact(Decimal(0)))
    others = _charged([_published(record) for record in batch], tariff, Decimal(50), exact(Decimal(0)))
    assert ones[1] == others[1]
    assert ones[0].rows == others[0].rows
    SEEN["in windows"] += sum(1 for usage in fast if usage.event is None)


SEEN = {"fast": 0, "published": 0, "charged": 0, "in windows": 0}


def test_a_batch_is_charged_the_same_in_both_forms() -> None:
    _charged_the_same()
    _charged_the_same_in_windows()
    assert min(SEEN.values()) > 100, SEEN
