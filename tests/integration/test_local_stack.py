"""The stack on one machine: real servers, the supervisor over real processes, and the mail catcher."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from deploy.local.kafka import LocalKafka
from deploy.local.postgres import LocalPostgres
from deploy.local.topics import ensure_topics
from deploy.postgres.bootstrap import SERVICES, RolePasswords, bootstrap, database_dsn

PASSWORDS = {service: RolePasswords(owner=f"{service}-o'wner", app=f"{service}-app") for service in SERVICES}


@dataclass(frozen=True)
class Topic:
    """A topic in the shape of the contract registry."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPostgres]:
    with LocalPostgres(tmp_path_factory.mktemp("postgres")) as server:
        asyncio.run(bootstrap(server.admin_dsn, PASSWORDS))
        yield server


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    with LocalKafka(tmp_path_factory.mktemp("kafka")) as server:
        yield server


def owner_dsn(server: LocalPostgres, service: str) -> str:
    return database_dsn(server.admin_dsn, f"{service}_owner", PASSWORDS[service].owner)


def app_dsn(server: LocalPostgres, service: str) -> str:
    return database_dsn(server.admin_dsn, f"{service}_app", PASSWORDS[service].app)


async def execute(dsn: str, *statements: str) -> object:
    """Run statements on a connection of their own, and give the last one's first value."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


async def publish(server: LocalKafka, topic: str, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=server.bootstrap_servers, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def read_all(server: LocalKafka, topic: str, count: int) -> list[bytes | None]:
    consumer = AIOKafkaConsumer(bootstrap_servers=server.bootstrap_servers, auto_offset_reset="earliest")
    async with consumer, asyncio.timeout(30):
        consumer.assign([TopicPartition(topic, 0)])
        return [(await consumer.getone()).value for _ in range(count)]


async def test_bootstrap_is_repeatable_and_takes_new_passwords(postgres: LocalPostgres) -> None:
    await bootstrap(postgres.admin_dsn, PASSWORDS)
    changed = {**PASSWORDS, "payments": RolePasswords(owner="new", app="new")}
    await bootstrap(postgres.admin_dsn, changed)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await execute(app_dsn(postgres, "payments"), "SELECT 1")
    assert await execute(database_dsn(postgres.admin_dsn, "payments_app", "new"), "SELECT 1") == 1
    await bootstrap(postgres.admin_dsn, PASSWORDS)
    assert await execute(app_dsn(postgres, "payments"), "SELECT 1") == 1


async def test_a_role_works_in_its_own_schema_and_cannot_read_anothers(postgres: LocalPostgres) -> None:
    made = (
        "CREATE TABLE ledger (amount numeric)",
        "INSERT INTO ledger VALUES (1.5)",
        "GRANT SELECT ON ledger TO billing_app",
        "SELECT count(*) FROM ledger",
    )
    assert await execute(owner_dsn(postgres, "billing"), *made) == 1
    assert await execute(app_dsn(postgres, "billing"), "SELECT count(*) FROM ledger") == 1
    for role in (app_dsn(postgres, "payments"), owner_dsn(postgres, "payments")):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await execute(role, "SELECT count(*) FROM billing.ledger")


@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE billing.mine (n int)", "CREATE TABLE public.mine (n int)", "CREATE SCHEMA mine", "CREATE ROLE mine"],
)
async def test_an_application_role_makes_no_objects(postgres: LocalPostgres, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await execute(app_dsn(postgres, "billing"), statement)


async def test_a_role_without_a_grant_cannot_connect(postgres: LocalPostgres) -> None:
    await execute(postgres.admin_dsn, "CREATE ROLE stranger LOGIN PASSWORD 'stranger'", "SELECT 1")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await execute(database_dsn(postgres.admin_dsn, "stranger", "stranger"), "SELECT 1")


async def test_a_wrong_password_is_refused(postgres: LocalPostgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await execute(postgres.dsn("postgres", "wrong", "postgres"), "SELECT 1")


async def test_a_commit_is_never_traded_for_speed(postgres: LocalPostgres) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await execute(postgres.admin_dsn, f"SHOW {setting}") == "on"


@pytest.mark.parametrize("how", ["fast", "immediate", "kill"])
async def test_postgres_keeps_committed_rows_however_it_ends(
    postgres: LocalPostgres, how: Literal["fast", "immediate", "kill"]
) -> None:
    owner = owner_dsn(postgres, "gateway")
    await execute(owner, f"CREATE TABLE kept_{how} (n int)", f"INSERT INTO kept_{how} VALUES (7)", "SELECT 1")
    before = postgres.pid
    if how == "kill":
        await asyncio.to_thread(postgres.kill)
    else:
        await asyncio.to_thread(postgres.stop, mode=how)
    assert not postgres.running
    await asyncio.to_thread(postgres.start)
    assert postgres.pid != before
    assert await execute(owner, f"SELECT n FROM kept_{how}") == 7


async def test_kafka_keeps_acknowledged_records_through_a_kill(kafka: LocalKafka) -> None:
    await ensure_topics(kafka.bootstrap_servers, [Topic("kept", 1)])
    await publish(kafka, "kept", b"one", b"two")
    before = kafka.pid
    await asyncio.to_thread(kafka.kill)
    assert not kafka.running
    await asyncio.to_thread(kafka.restart)
    assert kafka.pid != before
    await publish(kafka, "kept", b"three")
    assert await read_all(kafka, "kept", 3) == [b"one", b"two", b"three"]


async def test_topics_are_created_grown_and_corrected_and_left_alone_when_right(kafka: LocalKafka) -> None:
    address = kafka.bootstrap_servers
    await ensure_topics(address, [Topic("grown", 2, {"retention.ms": "1000000"})])
    await ensure_topics(address, [Topic("grown", 2, {"retention.ms": "1000000"})])
    assert await topic_state(address, "grown") == (2, "1000000", "delete")
    await ensure_topics(address, [Topic("grown", 5, {"cleanup.policy": "compact"}), Topic("other", 1)])
    # The retention that was set before and is no longer named stays.
    assert await topic_state(address, "grown") == (5, "1000000", "compact")
    assert (await topic_state(address, "other"))[0] == 1
    await ensure_topics(address, [Topic("grown", 3, {"retention.ms": "2000000"})])
    assert await topic_state(address, "grown") == (5, "2000000", "compact")


async def topic_state(address: str, name: str) -> tuple[int, str, str]:
    """Give a topic's number of partitions, retention and clean-up policy, as the broker tells them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        (topic,) = await admin.describe_topics([name])
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    finally:
        await admin.close()
    configs = {entry[0]: entry[1] for entry in answer.resources[0][4]}
    return len(topic["partitions"]), configs["retention.ms"], configs["cleanup.policy"]
