"""A charge that has to give way again and again ends with nothing done and nothing refused, and is tried later."""

from uuid import uuid4

import asyncpg
import pytest

from services.chassis.database import Contended, is_transient, is_undecided
from tests.integration.billing.conftest import BillingApi
from tests.support.charging import charge
from tests.support.events import usage_record
from tests.support.ledger import Books
from tests.support.stack import ServerPair


async def test_a_charge_that_never_gets_through_is_given_up_for_now(
    servers: ServerPair, api: BillingApi, mandate: str
) -> None:
    books, model = Books(servers.admin_dsn), f"cursed-{uuid4()}"
    parked = [usage_record(mandate, cost=None, tokens={"input": 1}, model=model) for _ in range(2)]
    batch = [usage_record(mandate), *parked]
    owner = await asyncpg.connect(servers.dsn("billing", owner=True))
    try:
        # As if somebody else recorded one of the two anew before each try.
        await owner.execute(f"CREATE UNIQUE INDEX cursed ON unposted_events (model) WHERE model = '{model}'")
        with pytest.raises(Contended) as given_up:
            await charge(api.database, *batch)
        assert is_transient(given_up.value)
        assert not is_undecided(given_up.value)
        assert (await books.charged([mandate]), await books.parked([mandate])) == (0, 0)
        assert await books.refused(mandate) == {}
    finally:
        await owner.execute("DROP INDEX IF EXISTS cursed")
        await owner.close()
    await charge(api.database, *batch)
    assert (await books.charged([mandate]), await books.parked([mandate])) == (1, 2)
    assert await books.failing() == {}
