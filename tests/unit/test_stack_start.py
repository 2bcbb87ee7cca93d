"""What the local stack waits for when it starts."""

import httpx
import pytest
from fastapi import FastAPI

from deploy.local.health import http_started, readiness
from services.chassis.health import Health, health_routes

STOPPED = "stopped, because 2000 of 2000 records on end were refused"


@pytest.mark.parametrize(
    ("database", "consumer", "started"),
    [(True, True, True), (True, STOPPED, True), (True, False, False), (False, STOPPED, False)],
)
async def test_a_process_that_waits_for_the_operator_alone_has_started(
    database: bool, consumer: bool | str, started: bool
) -> None:
    # Else the stack would never come up again, and without it there is no `rappen dlq resume`.
    health, app = Health(), FastAPI()

    async def database_ready() -> bool | str:
        return database

    async def consumer_ready() -> bool | str:
        return consumer

    health.register("database", database_ready)
    health.register("consumer usage.recorded", consumer_ready)
    app.include_router(health_routes(health))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        assert await http_started(client, "http://worker/readyz") is started
        ready, _ = await readiness(client, "http://worker/readyz")
        assert ready is (database and consumer is True)


async def test_what_does_not_answer_has_not_started() -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        assert not await http_started(client, "http://127.0.0.1:9/readyz")
