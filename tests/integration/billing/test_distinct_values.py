"""The values of a column that rows alone have are read from the newest rows where those say what they are."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.billing.ledger.descriptions import KEPT_MAX
from services.billing.reports.distinct_values import distinct_values
from services.billing.reports.errors import TooManyValues
from services.billing.reports.listing import ListLimits
from services.billing.reports.scope import Scope
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of
from tests.support.charging import charge
from tests.support.events import new_mandate, usage_record, voided_record
from tests.support.statements import CountedDatabase

AT = datetime(2026, 5, 4, 10, tzinfo=UTC)
RECENT = 10
CHARGES = 40


async def _values(
    api: BillingApi, mandate: str, column: str = "description", *, most: int = 10_000, **asked: Any
) -> tuple[list[str], int]:
    """The values, and with how many statements they were found."""
    counted = CountedDatabase(api.database)
    scope, limits = Scope.of(admin_of(mandate)), ListLimits(1000, most, 60, recent_rows=RECENT)
    values = await distinct_values(counted, scope, column, json.dumps(asked), limits)
    return values, len(counted.calls)


async def _used(api: BillingApi, descriptions: Sequence[str | None], **more: Any) -> str:
    """A mandate with charges of these descriptions by turns, the first of them the oldest."""
    mandate = new_mandate()
    records = [
        usage_record(
            mandate,
            "user-1",
            at=AT + timedelta(minutes=number),
            description=descriptions[number % len(descriptions)],
            provider="openai",
            processing_time_ms=number,
            **more,
        )
        for number in range(CHARGES)
    ]
    await charge(api.database, *records)
    return mandate


async def test_descriptions_are_those_of_the_newest_rows_where_all_that_there_are_is_among_them(
    api: BillingApi,
) -> None:
    mandate = await _used(api, ["Summary", None, "Übersetzung"])
    found, statements = await _values(api, mandate)
    assert found == ["AI Usage: openai", "Summary", "Übersetzung"]
    # One that only the oldest row has is found all the same, by reading all.
    await charge(api.database, usage_record(mandate, "user-1", at=AT - timedelta(days=1), description="Rare"))
    found, with_all = await _values(api, mandate)
    assert found == ["AI Usage: openai", "Rare", "Summary", "Übersetzung"]
    assert with_all > statements


async def test_what_other_rows_say_is_among_the_values_however_old_they_are(api: BillingApi) -> None:
    mandate = await _used(api, ["Summary"])
    _, statements = await _values(api, mandate)
    storage = {"kind": "storage", "feature_instance_id": "inst-1", "bytes_in_use": 1, "provider": None, "model": None}
    await charge(api.database, usage_record(mandate, "user-1", at=AT - timedelta(days=1), **storage))
    found, still = await _values(api, mandate)
    assert (found, still) == (["Storage: chat", "Summary"], statements)


async def test_the_longest_description_that_is_offered_can_be_filtered_by(api: BillingApi) -> None:
    mandate, event_id = new_mandate(), uuid4()
    usage = usage_record(mandate, "user-1", event_id=event_id, description="Summary")
    await charge(api.database, usage, voided_record(mandate, event_id, reason="x" * 500))
    offered, _ = await _values(api, mandate)
    assert offered == [f"Reversal: {'x' * 500}", "Summary"]
    params = {"mandateId": mandate, "pagination": json.dumps({"filters": {"description": offered[0]}})}
    answer = await api.call(admin_of(mandate), "GET", "/api/billing/view/users/transactions", params=params)
    assert [row["description"] for row in answer.json()["items"]] == [offered[0]]


async def test_a_filter_leaves_only_the_values_of_its_rows(api: BillingApi) -> None:
    mandate = await _used(api, ["Summary"])
    other = usage_record(mandate, "user-1", at=AT - timedelta(days=1), provider="mistral", description="Old")
    await charge(api.database, other)
    by_provider, statements = await _values(api, mandate, filters={"aicoreProvider": "openai"})
    assert by_provider == ["Summary"]
    assert (await _values(api, mandate, filters={"aicoreProvider": "mistral"}))[0] == ["Old"]
    # The newest of the days that are listed count, and the descriptions of other days are not known.
    before = {"createdAt": {"operator": "lt", "value": "2026-05-04"}}
    assert (await _values(api, mandate, filters=before))[0] == ["Old"]
    assert (await _values(api, mandate))[1] > statements


async def test_where_not_every_description_is_kept_all_rows_are_read(api: BillingApi) -> None:
    mandate = new_mandate()
    records = [
        usage_record(mandate, "user-1", at=AT + timedelta(minutes=number), description=f"Call {number:03}")
        for number in range(KEPT_MAX + 1)
    ]
    await charge(api.database, *records)
    found, _ = await _values(api, mandate)
    assert found == [f"Call {number:03}" for number in range(KEPT_MAX + 1)]


async def test_where_dimensions_have_many_descriptions_all_rows_are_read_even_if_those_are_the_same(
    api: BillingApi,
) -> None:
    mandate = new_mandate()
    records = [
        usage_record(
            mandate, "user-1", at=AT + timedelta(minutes=number), description=text, model=f"model-{number % 3}"
        )
        for number in range(CHARGES)
        for text in ("One", "Two")
    ]
    await charge(api.database, *records)
    # Three dimensions have two each, which is six; no more are looked through than an answer can have.
    found, statements = await _values(api, mandate, most=6)
    of_all, with_all = await _values(api, mandate, most=5)
    assert found == of_all == ["One", "Two"]
    assert with_all > statements


async def test_of_rows_at_one_time_no_more_than_the_newest_are_read_before_all(api: BillingApi) -> None:
    mandate = new_mandate()
    await charge(api.database, *(usage_record(mandate, "user-1", at=AT, description="Same") for _ in range(CHARGES)))
    found, with_all = await _values(api, mandate)
    assert found == ["Same"]
    newer = [usage_record(mandate, "user-1", at=AT + timedelta(minutes=1), description="Same") for _ in range(RECENT)]
    await charge(api.database, *newer)
    found, statements = await _values(api, mandate)
    assert found == ["Same"]
    assert statements < with_all


@pytest.mark.parametrize("column", ["processingTime", "id", "referenceId"])
async def test_more_values_than_an_answer_can_have_are_seen_in_the_newest_rows(api: BillingApi, column: str) -> None:
    mandate, most = await _used(api, ["Summary"]), 5
    assert len((await _values(api, mandate, column))[0]) == CHARGES
    # No row has any error, so all are read.
    _, of_all = await _values(api, mandate, "errorCount", most=most)
    counted = CountedDatabase(api.database)
    with pytest.raises(TooManyValues):
        await distinct_values(counted, Scope.of(admin_of(mandate)), column, "{}", ListLimits(1000, most, 60))
    assert len(counted.calls) == of_all - 1
