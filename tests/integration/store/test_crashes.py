"""Processes that die at every step of the store's work: nothing is used unpaid or paid unused, and nothing is made
twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

import httpx
import pytest

from tests.integration.store.harness import WAIT_S, Shop, unique
from tests.support.processes import ServiceProcess
from tests.support.waiting import eventually

ACTIVATING = (
    "store_activation_before_commit",
    "store_activation_begun",
    "relay_read",
    "relay_produced",
    "directory_request_before_commit",
    "directory_request_applied",
    "store_directory_before_commit",
    "store_payment_before_commit",
    "after_commit",
)


@asynccontextmanager
async def revived(shop: Shop) -> AsyncIterator[None]:
    """Whatever dies in the block is started again, and both are ready after it."""

    async def revive() -> None:
        while True:
            for process in (shop.subscriptions, shop.gateway):
                if not process.running:
                    process.start()
            await asyncio.sleep(0.1)

    reviving = asyncio.create_task(revive())
    try:
        yield
        for process in (shop.subscriptions, shop.gateway):
            await eventually(lambda process=process: _is_ready(process), what="ready again", timeout_s=WAIT_S)  # type: ignore[misc]
    finally:
        reviving.cancel()


async def _is_ready(process: ServiceProcess) -> bool:
    """One that was killed a moment ago may still answer, and one that is starting does not yet."""
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"{process.internal_url}/readyz")
    except httpx.TransportError:
        return False
    return process.running and answer.status_code == httpx.codes.OK


async def consistent(shop: Shop, mandate: str) -> int:
    """How many instances are active; each is entered with its access, and charged for, and no other is."""
    await shop.settled(mandate)
    active = (await shop.states(mandate)).count("ACTIVE")
    assert len(await shop.instances(mandate)) == len(await shop.accesses(mandate)) == active

    def charged() -> int:
        asked = [request.quantities.feature_instances for request in shop.payments.requests(mandate)]
        return asked[-1] if asked else 0

    await eventually(lambda: charged() == active, what="charged is what is active", timeout_s=WAIT_S)
    return active


@pytest.mark.parametrize("point", ACTIVATING)
async def test_an_activation_is_finished_or_taken_back_wherever_a_process_dies(shop: Shop, point: str) -> None:
    mandate, user = await shop.tenant()
    await shop.subscribe(mandate, "STARTER")
    before = shop.faults.hits(point)
    shop.faults.arm(point)
    key = str(uuid4())
    async with revived(shop):
        # Whatever it is answered, if at all.
        with suppress(httpx.TransportError):
            await shop.activate(user, mandate, key=key)
        await eventually(lambda: shop.faults.hits(point) == before + 1, what=f"death at {point}", timeout_s=WAIT_S)
    assert await consistent(shop, mandate) <= 1
    # Repeated with its key, it is made if it was not, and not made twice if it was.
    answer = await shop.activate(user, mandate, key=key)
    assert answer.status_code == 200, answer.text
    assert await consistent(shop, mandate) == 1
    assert len(await shop.activated(mandate, 1)) == 1


@pytest.mark.parametrize("point", ["directory_request_applied", "store_directory_before_commit"])
async def test_what_is_taken_back_is_taken_back_wherever_a_process_dies(shop: Shop, point: str) -> None:
    mandate, user = await shop.tenant()
    await shop.subscribe(mandate, "STARTER")
    shop.payments.outcomes[mandate] = None
    waiting = asyncio.create_task(shop.activate(user, mandate))
    await eventually(lambda: shop.payments.requests(mandate), what="the payment asked for")
    before = shop.faults.hits(point)
    shop.faults.arm(point)
    await shop.payments.settle(shop.payments.requests(mandate)[0], "declined")
    async with revived(shop):
        with suppress(httpx.TransportError):
            await waiting
        await eventually(lambda: shop.faults.hits(point) == before + 1, what=f"death at {point}", timeout_s=WAIT_S)
    assert await consistent(shop, mandate) == 0
    assert await shop.states(mandate) == ["ROLLED_BACK"]


@pytest.mark.parametrize("point", ["store_removal_begun", "directory_request_applied", "store_directory_before_commit"])
async def test_a_removal_is_never_taken_back_wherever_a_process_dies(shop: Shop, point: str) -> None:
    mandate, user = await shop.tenant()
    await shop.subscribe(mandate, "STARTER")
    instance = (await shop.activate(user, mandate)).json()["instanceId"]
    before = shop.faults.hits(point)
    shop.faults.arm(point)
    async with revived(shop):
        with suppress(httpx.TransportError):
            await shop.deactivate(user, mandate, instance)
        await eventually(lambda: shop.faults.hits(point) == before + 1, what=f"death at {point}", timeout_s=WAIT_S)
    await shop.settled(mandate)
    assert await shop.instances(mandate) == await shop.accesses(mandate) == []
    await eventually(
        lambda: shop.payments.requests(mandate)[-1].quantities.feature_instances == 0, what="no longer charged"
    )


@pytest.mark.parametrize(
    "point", ["store_personal_before_commit", "store_personal_begun", "directory_request_before_commit"]
)
async def test_a_personal_mandate_is_made_once_wherever_a_process_dies(shop: Shop, point: str) -> None:
    user = unique("u")
    before = shop.faults.hits(point)
    shop.faults.arm(point)
    async with revived(shop):
        with suppress(httpx.TransportError):
            await shop.get("mandates", user)
        await eventually(lambda: shop.faults.hits(point) == before + 1, what=f"death at {point}", timeout_s=WAIT_S)
    # The signed-in caller of the first answer may come before the directory has read it.
    answer = await eventually(lambda: _listed(shop, user), what="the mandate listed", timeout_s=WAIT_S)
    assert len(answer.json()) == 1
    for table in ("personal_mandates", "trials"):
        assert len(await shop.fetch(f"SELECT 1 FROM {table} WHERE user_id = $1", user)) == 1


async def _listed(shop: Shop, user: str) -> httpx.Response | None:
    answer = await shop.get("mandates", user)
    return answer if answer.status_code == httpx.codes.OK else None
