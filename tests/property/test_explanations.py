"""What is printed of a charge leads to its amount by a computation that knows nothing of the product's pricing."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa

from rappen_contracts.types import TIME_START
from services.billing.charging.charge_usage import PricingContext, split_by_price
from services.billing.charging.usage_events import Usage, reader
from services.billing.ledger.calendars import Calendar
from services.billing.ledger.domain import Posting
from services.billing.ledger.keys import ChargeKeys
from services.billing.mandates.domain import Terms
from services.billing.money import Exact, Markup, exact, post, remainder_text
from services.billing.pricing import PriceBook, PriceVersion, Rate, RateTable, version_to_text
from services.billing.pricing.derivation import KeptTariff
from services.billing.pricing.explained import KeptCharge, explain_charge, explain_reading
from services.billing.pricing.kept_tariff import StoredPrice, StoredRate, kept_tariff
from services.billing.pricing.quotes import Quotes
from services.billing.pricing.rating import Tariff
from services.billing.reports.explanation import Related, explanation_json
from tests.support.examples import many
from tests.support.explanations import assert_explained
from tests.support.priced_usage import NOW, any_number, any_rates, any_record, any_versions, fitting_record, is_accepted
from tests.support.records import arrived_record

SEEN: Counter[str] = Counter()
NOTHING_RELATED = Related([], None, None, None, [], None)


def _stored(versions: Sequence[PriceVersion], rates: Sequence[Rate]) -> KeptTariff:
    """The tariff as the database has it, and as a charge finds it again."""
    return kept_tariff(
        [StoredPrice(version.id, version_to_text(version), usable=True) for version in versions],
        [StoredRate(rate.id, rate.currency, rate.valid_from, str(rate.rate), usable=True) for rate in rates],
    )


def _row(posting: Posting, usage: Usage, amount: int) -> dict[str, Any]:
    """The row of a charge as a query gives it; what explains nothing is empty."""
    row = dict.fromkeys(
        (
            *("description", "workflow_id", "created_by_user_id", "label", "name", "moved_user_id", "reference_id"),
            *("processing_time_ms", "bytes_sent", "bytes_received", "error_count", "input_tokens", "output_tokens"),
        )
    )
    return row | {
        "mandate_no": 1,
        "mandate_id": usage.names[0],
        "member_id": usage.names[1],
        "provider": usage.names[2],
        "model": usage.names[3],
        "feature_code": usage.names[4],
        "feature_instance_id": usage.names[5],
        "event_id": UUID(bytes=posting.event_id),
        "member_account_no": 2,
        "posted_account_no": 3,
        "seq": 1,
        "moved_type": "MANDATE",
        "balance_shown": True,
        "transaction_type": posting.transaction_type,
        "contra_account": posting.contra_account,
        "reference_type": posting.reference_type,
        "amount": amount,
        "balance_after": -amount,
        "occurred_at": TIME_START + timedelta(microseconds=posting.occurred_at),
        "recorded_at": NOW,
    }


def _explained(posting: Posting, remainder: Exact, kept: KeptTariff) -> Exact:
    usage = posting.usage
    assert isinstance(usage, Usage)
    assert posting.price is not None
    amount, left = post(posting.price, remainder)
    text = usage.explain(remainder_text(remainder), remainder_text(left)).decode()
    row = _row(posting, usage, amount)
    charge = KeptCharge(text, amount, (row["provider"], row["model"]), row["occurred_at"])
    explained = explain_charge(charge, kept)
    assert explain_reading(text) == (usage.source.price, usage.source.rate)
    explanation = explanation_json(cast("sa.RowMapping", row), explained, NOTHING_RELATED)
    assert_explained(explanation)
    for line in explanation["lines"]:
        SEEN["lines"] += 1
        SEEN[f"priced {line['pricedAs'] or 'as itself'}"] += 1
        SEEN["factors"] += line["factor"] != "1"
    SEEN["costs"] += not explanation["lines"]
    SEEN["rates"] += explanation["rate"] != "1"
    SEEN["windows"] += bool(explanation["selection"] and explanation["selection"]["windows"])
    SEEN["bands"] += bool(explanation["selection"] and explanation["selection"]["above"])
    SEEN["conditions"] += bool(explanation["selection"] and any(explanation["selection"]["conditions"].values()))
    return left


@many(1_000)
def _recomputed(random: Random) -> None:
    versions, rates = any_versions(random), any_rates(random)
    tariff, kept = Tariff(1, PriceBook(versions), RateTable(rates)), _stored(versions, rates)
    markup = random.choice([Decimal(0), Decimal(50), any_number(random, (2, 23))])
    remainder: Exact = exact(random.choice([Decimal(0), Decimal(random.randrange(-(10**18), 10**18)).scaleb(-24) / 2]))
    terms = Terms(
        1, "PREPAY_MANDATE", Markup.of(markup), Calendar("UTC"), 0, has_unposted=False, has_cancellations=False
    )
    read = reader(NOW)
    drawn = [any_record(random), *(fitting_record(random, random.choice(versions)) for _ in range(4) if versions)]
    records = [record for record in drawn if is_accepted(record)]
    usages = [usage for record in records if isinstance(usage := read(arrived_record("usage.recorded", record)), Usage)]
    for usage in usages:
        usage.keys = ChargeKeys(1, 2, 3, 4, 5)
    context = PricingContext({1: terms}, tariff, Quotes(tariff))
    for posting in split_by_price(usages, context, datetime.now(UTC), {}).postings:
        remainder = _explained(posting, remainder, kept)


def test_what_is_printed_of_a_charge_of_every_kind_of_price_recomputes_to_its_amount() -> None:
    _recomputed()
    expected = {"lines", "factors", "costs", "rates", "windows", "bands", "conditions", "priced as itself"}
    expected |= {"priced as output", "priced as input", "priced at the standard price"}
    assert {name for name in expected if SEEN[name] < 5} == set(), SEEN
