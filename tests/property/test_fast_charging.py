"""A charge is the same in the fast form and in the published one: prices to the last digit, rows byte for byte.

`make fuzz` runs it with many more examples.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

from rappen_contracts import ContractError, decode
from rappen_contracts.usage.v1 import TOKEN_KINDS
from services.billing.charging.charge_usage import PricingContext, split_by_price
from services.billing.charging.usage_events import Usage, reader
from services.billing.ledger.calendars import Calendar
from services.billing.ledger.domain import LockedAccount
from services.billing.ledger.keys import ChargeKeys
from services.billing.ledger.write_postings import PreparedPostings, move_accounts
from services.billing.mandates.domain import Terms
from services.billing.money import Exact, Markup, exact
from services.billing.pricing import PriceBook, PriceError, PriceList, PriceVersion, Rate, RateTable
from services.billing.pricing.clock import Window
from services.billing.pricing.quotes import Quotes
from services.billing.pricing.rating import Tariff
from services.billing.pricing.version import Factor
from tests.support.events import RawRecord, usage_record
from tests.support.examples import many
from tests.support.records import arrived_record
from tests.support.usage_shapes import usual_body

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
STARTS = [NOW - timedelta(days=days) for days in (900, 40, 1)]
MODELS = [("anthropic", "claude"), ("anthropic", "Ä")]


def _number(random: Random, places: Sequence[int] = (4, 12, 24)) -> Decimal:
    return Decimal(random.randrange(10 ** random.choice([1, 4, 7]))).scaleb(-random.choice(places))


def _list(random: Random) -> PriceList:
    kinds = random.sample([*TOKEN_KINDS, "images", "seconds"], random.choice([1, 4, 15]))
    return PriceList(
        {kind: _number(random) for kind in kinds},
        random.choice([("standard",), ("standard",), ("batch",), ("batch", "flex"), ("*",)]),
        *random.choice([(None, None), (None, None), (None, 1000), (1000, None), (0, 200_000)]),
        random.choice([{}, {}, {}, {"region": "eu"}, {"region": "*"}, {"speed": "fast"}]),
        random.choice([(), (), (), (), (Window(9 * 60, 18 * 60, (1, 2, 3, 4, 5), "Europe/Zurich"),)]),
    )


def _factor(random: Random) -> Factor:
    factor = _number(random, (3, 6))
    return random.choice([Factor(factor, random.choice(["batch", "flex"])), Factor(factor, when={"region": "us"})])


def _tariff(random: Random) -> Tariff:
    """Any prices that can be in force, of several versions, and rates."""
    versions = []
    for number in range(random.randrange(1, 5)):
        try:
            versions.append(
                PriceVersion(
                    *random.choice(MODELS),
                    random.choice(["USD", "CHF", "EUR"]),
                    random.choice(STARTS),
                    tuple(_list(random) for _ in range(random.randrange(1, 4))),
                    tuple(_factor(random) for _ in range(random.choice([0, 0, 1, 2]))),
                    id=str(number),
                )
            )
        except PriceError:
            continue
    rates = [
        Rate(random.choice(["USD", "EUR"]), random.choice(STARTS), _number(random) + Decimal("0.01"), str(number))
        for number in range(random.randrange(5))
    ]
    return Tariff(1, PriceBook(versions), RateTable(rates))


def _record(random: Random) -> RawRecord:
    """Usage of a model that may have a price, at some time."""
    body = usual_body(random)
    body["provider"], body["model"] = random.choice(MODELS)
    if random.random() < 0.3:
        body["conditions"] = random.choice([{"region": "eu"}, {"region": "us"}, {"speed": "fast"}, {"x": "y"}])
    at = NOW - timedelta(seconds=random.choice([0, 1, 40_000, 86_400, 86_401, 10_000_000]), microseconds=7)
    cost = {"cost": None} if "cost" not in body else {}
    mandate_id, user_id = body.pop("mandate_id"), body.pop("user_id")
    return usage_record(mandate_id, user_id, event_id=UUID(int=random.getrandbits(128)), at=at, **cost | body)


def _accepted(record: RawRecord) -> bool:
    try:
        decode(record.headers, record.value, now=NOW)
    except ContractError:
        return False
    return True


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
def test_a_batch_is_charged_the_same_in_both_forms(random: Random) -> None:
    tariff, markup = _tariff(random), random.choice([Decimal(0), Decimal(50), _number(random, (2, 23))])
    remainder = random.choice(
        [Decimal(0), Decimal("1E-30"), Decimal(random.randrange(-(10**18), 10**18)).scaleb(-24) / 2]
    )
    batch = [record for _ in range(random.randrange(1, 9)) if _accepted(record := _record(random))]
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


SEEN = {"fast": 0, "published": 0, "charged": 0}


def test_both_forms_were_at_work() -> None:
    assert min(SEEN.values()) > 100, SEEN
