"""What is charged at Stripe is kept in step with what is in use, until both agree."""

from datetime import timedelta

from rappen_contracts.directory.v1 import FeatureInstance, Mandate, Membership
from services.subscriptions.quantities.repository import hold_quantities
from services.subscriptions.quantities.request_quantities import request_quantities
from tests.integration.subscriptions.harness import BEGINNING, Service
from tests.integration.subscriptions.paying import subscribed
from tests.support.waiting import eventually


async def charged(service: Service, mandate_id: str) -> tuple[int, int, bool]:
    """What Stripe charges for, as far as known, and whether it will be looked at again."""
    (row,) = await service.fetch(
        "SELECT charged_members, charged_feature_instances, check_at FROM quantities WHERE mandate_id = $1", mandate_id
    )
    return row["charged_members"], row["charged_feature_instances"], row["check_at"] is not None


async def settled(service: Service, mandate_id: str, members: int, feature_instances: int) -> None:
    async def agree() -> bool:
        await service.keep_in_step()
        return await charged(service, mandate_id) == (members, feature_instances, False)

    await eventually(agree, what=f"{members} members and {feature_instances} instances charged")


async def asked(service: Service, mandate_id: str, count: int) -> None:
    """Looks until so many requests were made: a look passes over a row that an answer is just being noted in."""

    async def there() -> bool:
        await service.keep_in_step()
        return len(service.payments.quantities.of(mandate_id)) == count

    await eventually(there, what=f"request {count}")


async def test_members_and_instances_are_followed_absolutely_and_until_stripe_has_them(service: Service) -> None:
    mandate_id, _, stripe = await subscribed(service)
    await settled(service, mandate_id, 1, 0)
    await service.publish_directory(
        mandate_id,
        [
            (1, Mandate(id=mandate_id)),
            (2, Membership(mandate_id=mandate_id, user_id="a", roles=["admin"])),
            (3, Membership(mandate_id=mandate_id, user_id="b", roles=["member"])),
            (4, FeatureInstance(id=f"{mandate_id}-i", mandate_id=mandate_id, feature_code="chat")),
        ],
    )
    await service.keep_in_step()
    first = await service.payments.quantities.next(mandate_id, 1)
    assert (first.quantities.members, first.quantities.feature_instances) == (2, 1)
    assert (first.version, first.subscription_id, first.paid_at_once) == (1, stripe.record, False)
    # It could not be done, is not asked again at once, and is asked again after a while.
    await service.payments.settle_quantities(first, "unavailable")
    for _ in range(3):
        await service.keep_in_step()
    service.clock.now += timedelta(minutes=2)
    await asked(service, mandate_id, 2)
    second = service.payments.quantities.of(mandate_id)[1]
    assert (second.version, second.quantities) == (2, first.quantities)
    # An answer to the older request says nothing any more.
    await service.payments.settle_quantities(first)
    await service.payments.settle_quantities(second)
    await settled(service, mandate_id, 2, 1)
    # Somebody changed it at Stripe: it is put right, a minute after it was last asked for.
    service.clock.now += timedelta(minutes=2)
    stripe.members, stripe.feature_instances = 7, 1
    await service.payments.observe(stripe.fetch())
    await asked(service, mandate_id, 3)
    third = service.payments.quantities.of(mandate_id)[2]
    assert (third.version, third.quantities) == (3, first.quantities)

    # The subscription ends: nothing is asked any more.
    stripe.status, stripe.ended_at = "canceled", BEGINNING
    await service.payments.observe(stripe.fetch())

    async def ended() -> bool:
        (row,) = await service.fetch("SELECT live FROM quantities WHERE mandate_id = $1", mandate_id)
        return not row["live"]

    await eventually(ended, what="the subscription left alone")
    await service.publish_directory(mandate_id, [(5, Membership(mandate_id=mandate_id, user_id="c", roles=["member"]))])
    service.clock.now += timedelta(days=1)
    await service.keep_in_step()
    await settled(service, mandate_id, 7, 1)
    assert len(service.payments.quantities.of(mandate_id)) == 3


async def test_who_asks_and_waits_for_a_payment_is_not_forestalled(service: Service) -> None:
    mandate_id, _, stripe = await subscribed(service)
    await settled(service, mandate_id, 1, 0)
    now = service.clock.now
    async with service.database.transaction() as connection:
        await hold_quantities(connection, stripe.record, until=now + timedelta(minutes=5))
    await service.publish_directory(
        mandate_id, [(1, FeatureInstance(id=f"{mandate_id}-i", mandate_id=mandate_id, feature_code="chat"))]
    )
    await service.keep_in_step()
    async with service.database.transaction() as connection:
        request_id = await request_quantities(
            connection, stripe.record, paid_at_once=True, expires_at=now + timedelta(minutes=1), cause="test", now=now
        )
    requested = await service.payments.quantities.next(mandate_id, 1)
    assert (requested.request_id, requested.paid_at_once, requested.quantities.feature_instances) == (
        request_id,
        True,
        1,
    )
    await service.payments.settle_quantities(requested)
    await settled(service, mandate_id, 1, 1)
    assert len(service.payments.quantities.of(mandate_id)) == 1
