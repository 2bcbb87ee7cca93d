"""The copy of the directory: the newest version wins, repeats change nothing, what cannot be read is kept aside."""

from decimal import Decimal
from uuid import uuid4

import asyncpg

from rappen_contracts.codec import encode
from rappen_contracts.directory.v1 import (
    DirectoryEntry,
    FeatureAccess,
    FeatureInstance,
    Mandate,
    Membership,
    ProviderPermissions,
    User,
)
from rappen_contracts.payment.v1 import PaymentSucceeded
from rappen_contracts.registry import PAYMENT_SUCCEEDED_V1
from rappen_contracts.types import NonNegativeMoney
from services.chassis.settings import KafkaSettings
from services.subscriptions.directory.fill_copy import FillCopy
from tests.integration.subscriptions.harness import BEGINNING, WAIT_S, Service
from tests.support.events import new_mandate
from tests.support.topics import read_topic


async def known(service: Service, mandate_id: str) -> list[list[tuple[object, ...]]]:
    """Everything known of a mandate."""
    statements = (
        "SELECT * FROM directory_mandates WHERE id = $1",
        "SELECT * FROM directory_members WHERE mandate_id = $1 AND user_id NOT LIKE 'marker-%' ORDER BY user_id",
        "SELECT * FROM directory_feature_instances WHERE mandate_id = $1 ORDER BY id",
        "SELECT * FROM directory_feature_access WHERE mandate_id = $1 ORDER BY user_id",
        "SELECT * FROM directory_users WHERE id = 'user-of-' || $1",
    )
    return [[tuple(row) for row in await service.fetch(statement, mandate_id)] for statement in statements]


async def test_the_newest_version_wins_in_whatever_order_and_a_replay_changes_nothing(service: Service) -> None:
    mandate_id = new_mandate()
    history: list[tuple[int, DirectoryEntry]] = [
        (5, Mandate(id=mandate_id, name="new", label="New", is_system=True)),
        (3, Mandate(id=mandate_id, name="old", enabled=False)),
        (6, Membership(mandate_id=mandate_id, user_id="a", roles=["member"])),
        (9, Membership(mandate_id=mandate_id, user_id="a", roles=["admin", "member"], enabled=False)),
        (8, Membership(mandate_id=mandate_id, user_id="a", roles=["admin"])),
        (7, FeatureInstance(id=f"{mandate_id}-i", mandate_id=mandate_id, feature_code="chat", label="Chat")),
        (10, FeatureInstance(id=f"{mandate_id}-i", mandate_id=mandate_id, feature_code="chat", enabled=False)),
        (14, User(id=f"user-of-{mandate_id}", username="new", display_name="A")),
        (11, User(id=f"user-of-{mandate_id}", username="old", display_name="A")),
        (12, FeatureAccess(instance_id=f"{mandate_id}-i", mandate_id=mandate_id, user_id="a", roles=["admin"])),
        (
            15,
            FeatureAccess(
                instance_id=f"{mandate_id}-i", mandate_id=mandate_id, user_id="a", roles=["user"], enabled=False
            ),
        ),
        # Of no use to this service.
        (13, ProviderPermissions(mandate_id=mandate_id, role="admin", providers=None)),
    ]
    expected = [
        [(mandate_id, "new", "New", True, True, 5)],
        [(mandate_id, "a", ["admin", "member"], False, 9)],
        [(f"{mandate_id}-i", mandate_id, "chat", None, False, 10)],
        [(f"{mandate_id}-i", "a", mandate_id, ["user"], False, 15)],
        [(f"user-of-{mandate_id}", "new", 14)],
    ]
    await service.publish_directory(mandate_id, history)
    assert await known(service, mandate_id) == expected
    await service.publish_directory(mandate_id, history)
    assert await known(service, mandate_id) == expected
    assert not await service.fetch("SELECT 1 FROM quarantine WHERE key = $1", mandate_id.encode())


async def test_what_cannot_be_read_is_set_aside_and_its_neighbours_are_not_held_up(service: Service) -> None:
    mandate_id = new_mandate()
    key = mandate_id.encode()
    await service.producer.send_and_wait("directory.changed", key=key, value=b"no json", headers=[("odd", b"\xff")])
    foreign = encode(
        PaymentSucceeded(
            mandate_id=mandate_id,
            amount=NonNegativeMoney(amount=Decimal(1), currency="CHF"),
            reason="top_up",
            reference="r",
            paid_at=BEGINNING,
            cause="test",
        ),
        type=PAYMENT_SUCCEEDED_V1.type,
        id=uuid4(),
        source="/test",
        time=BEGINNING,
        key=mandate_id,
    )
    await service.producer.send_and_wait("directory.changed", key=key, value=foreign.value, headers=foreign.headers)
    await service.publish_directory(mandate_id, [(1, Mandate(id=mandate_id))])

    assert len((await known(service, mandate_id))[0]) == 1
    aside = await service.fetch(
        "SELECT group_id, topic, value, error_code FROM quarantine WHERE key = $1 ORDER BY id", key
    )
    assert [tuple(row) for row in aside] == [
        ("subscriptions", "directory.changed", b"no json", "NOT_JSON"),
        ("subscriptions", "directory.changed", foreign.value, "WRONG_TOPIC"),
    ]
    topic, bootstrap_servers = "directory.changed.subscriptions.dlq", service.servers.kafka.bootstrap_servers
    letters = await read_topic(bootstrap_servers, topic, key=key.decode(), count=2, timeout_s=WAIT_S)
    assert [letter.value for letter in letters] == [b"no json", foreign.value]


async def test_a_copy_of_an_earlier_release_is_filled_with_what_that_passed_over_and_nothing_older(
    service: Service,
) -> None:
    mandate_id, user = new_mandate(), f"u-{uuid4()}"
    instance = f"{mandate_id}-i"
    await service.publish_directory(
        mandate_id,
        [
            (1, Mandate(id=mandate_id, name="of before")),
            (1, User(id=user, username="ada", display_name="Ada")),
            (1, FeatureInstance(id=instance, mandate_id=mandate_id, feature_code="chat")),
            (1, FeatureAccess(instance_id=instance, mandate_id=mandate_id, user_id=user, roles=["user"])),
            (2, FeatureAccess(instance_id=instance, mandate_id=mandate_id, user_id=user, roles=["admin"])),
        ],
    )
    # As the release before the store left it: without users and accesses, and the group beyond them.
    read = "SELECT roles FROM directory_feature_access WHERE mandate_id = $1"
    earlier = (
        "DELETE FROM subscriptions.directory_feature_access WHERE mandate_id = $1",
        "DELETE FROM subscriptions.directory_users WHERE id = $1",
        "UPDATE subscriptions.directory_mandates SET name = 'newest', version = 9 WHERE id = $1",
    )
    owner = await asyncpg.connect(service.servers.dsn("subscriptions", owner=True))
    try:
        for statement, argument in zip(earlier, (mandate_id, user, mandate_id), strict=True):
            await owner.execute(statement, argument)
        await owner.execute("DELETE FROM subscriptions.directory_fillings")
    finally:
        await owner.close()
    kafka = KafkaSettings(bootstrap_servers=service.servers.kafka.bootstrap_servers)
    for _ in range(2):
        await FillCopy(service.database, kafka, client_id="test", clock=service.clock)()
        assert [row["roles"] for row in await service.fetch(read, mandate_id)] == [["admin"]]
        (found,) = await service.fetch("SELECT username FROM directory_users WHERE id = $1", user)
        assert found["username"] == "ada"
        (mandate,) = await service.fetch("SELECT name FROM directory_mandates WHERE id = $1", mandate_id)
        assert mandate["name"] == "newest"
    assert len(await service.fetch("SELECT 1 FROM directory_fillings")) == 1
