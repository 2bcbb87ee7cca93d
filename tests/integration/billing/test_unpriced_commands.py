"""`rappen unpriced` and `rappen unknown`: what waits for a price, and what the directory does not know."""

import json
from typing import Any
from uuid import uuid4

import pytest

from deploy.ops.pending import CONSUMERS, count_pending
from services.billing.commands.unpriced import run_unknown
from services.billing.settings import BillingSettings
from tests.integration.billing.conftest import BillingApi
from tests.support.charging import charge
from tests.support.events import new_mandate, usage_record, uuid7
from tests.support.processes import run_command
from tests.support.stack import ServerPair


def _lines(servers: ServerPair, *words: str) -> list[list[str]]:
    done = run_command(servers, "billing", *words)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def _items(servers: ServerPair, name: str) -> list[dict[str, Any]]:
    done = run_command(servers, "billing", name, "--json", "--limit", "10000")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer.keys() == {"items", "more"}
    return list(answer["items"])


async def test_parked_usage_is_listed_with_why_it_waits(servers: ServerPair, api: BillingApi, mandate: str) -> None:
    event_id, model = uuid7(), f"model-{uuid4()}\x1b[2J"
    await charge(api.database, usage_record(mandate, event_id=event_id, cost=None, tokens={"input": 1}, model=model))
    shown = f"anthropic/{model}".replace("\x1b", "?")
    (line,) = [line for line in _lines(servers, "unpriced", "--limit", "10000") if line[1] == str(event_id)]
    assert line[:5] == [mandate, str(event_id), "NO_PRICE", "-", shown]
    (item,) = [item for item in _items(servers, "unpriced") if item["eventId"] == str(event_id)]
    assert (item["mandateId"], item["reason"], item["model"]) == (mandate, "NO_PRICE", model)


async def test_usage_that_the_directory_does_not_know_is_listed(
    servers: ServerPair, api: BillingApi, mandate: str
) -> None:
    stranger, nowhere = f"user-{uuid4()}", new_mandate()
    await charge(api.database, usage_record(mandate, stranger), usage_record(nowhere, stranger))
    found = {tuple(line) for line in _lines(servers, "unknown", "--limit", "10000")}
    assert {(mandate, stranger, "1", "member"), (nowhere, stranger, "1", "mandate")} <= found
    assert {item["mandateId"] for item in _items(servers, "unknown") if item["userId"] == stranger} == {
        mandate,
        nowhere,
    }
    assert _lines(servers, "unknown", "--limit", "1")[-1][:3] == ["...", "and", "more:"]
    # Only billing has its tables here.
    pending = await count_pending({"postgres": dict.fromkeys(CONSUMERS, servers.dsn("billing"))})
    assert pending is not None
    assert pending.unknown == len(_items(servers, "unknown"))


@pytest.mark.parametrize("limit", ["0", "-1", "ten", "10001", "\u0661"])
def test_a_limit_that_cannot_be_is_refused_in_a_line(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = BillingSettings.model_construct()
    with pytest.raises(SystemExit, match="2"):
        run_unknown(settings, ["--limit", limit])
    told = capsys.readouterr().err
    assert "rappen unknown: error: argument --limit: a number from 1 to 10000 is needed" in told
