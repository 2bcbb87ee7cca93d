"""Storage from Kafka to the balance: reports on one topic, the renewal on another, and the charge once."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from rappen_contracts import encode
from rappen_contracts.registry import SUBSCRIPTION_CHANGED_V1
from rappen_contracts.subscription.v1 import Plan, SubscriptionChanged
from tests.support.events import RawRecord, new_mandate, publish, usage_record
from tests.support.facts import money
from tests.support.ledger import Books
from tests.support.processes import ServiceProcess
from tests.support.topics import all_read
from tests.support.waiting import eventually

MAY, JUNE, JULY = (datetime(2026, month, 1, tzinfo=UTC) for month in (5, 6, 7))


async def test_reports_and_a_renewal_that_come_twice_and_in_disorder_are_charged_once(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate, subscription_id = new_mandate(), uuid4()

    def changed(version: int, start: datetime, end: datetime) -> RawRecord:
        plan = Plan(
            key="STARTER",
            budget=money(20),
            rollover=True,
            max_data_volume_mb=1_000,
            storage_price_per_gb_month=money("0.5"),
        )
        data = SubscriptionChanged(
            mandate_id=mandate,
            subscription_id=subscription_id,
            version=version,
            to_state="ACTIVE",
            operative=True,
            budget_due=True,
            plan=plan,
            period_start=start,
            period_end=end,
            cause="tests",
        )
        record = encode(data, type=SUBSCRIPTION_CHANGED_V1.type, id=uuid4(), source="/tests", time=start, key=mandate)
        return RawRecord(record.value, list(record.headers), record.key)

    async def read(topic: str) -> None:
        await eventually(lambda: all_read(bootstrap_servers, topic, "billing"), what=f"the end of {topic}")

    # Both instances have 5 GB in use at once from the tenth hour to the eleventh, and 1 GB before and after.
    reports = [
        usage_record(
            mandate,
            f"user-{number % 3}",
            at=MAY + timedelta(hours=number),
            kind="storage",
            cost=None,
            provider=None,
            model=None,
            feature_instance_id=f"i-{number % 2}",
            bytes_in_use=5 * 10**9 if 9 <= number <= 10 else 10**9,
        )
        for number in range(20)
    ]
    opened, renewed = changed(1, MAY, JUNE), changed(2, JUNE, JULY)
    await publish(bootstrap_servers, [opened, opened], "subscription.changed")
    await publish(bootstrap_servers, [*reports[::-1], *reports])
    await read("usage.recorded")
    await publish(bootstrap_servers, [renewed, opened, renewed], "subscription.changed")
    await read("subscription.changed")
    rows = [(row["reference_type"], row["amount"], row["description"]) for row in await books.rows(mandate)]
    assert rows == [
        ("SUBSCRIPTION", 20_000_000, "Budget STARTER"),
        ("STORAGE", 4_500_000, "Storage: 9 GB above plan STARTER"),
        ("SUBSCRIPTION", 20_000_000, "Budget STARTER"),
    ]
    assert await books.pool(mandate) == 35_500_000
    assert await books.refused(mandate) == {}
    await books.settled([mandate], [record.event_id for record in reports])
