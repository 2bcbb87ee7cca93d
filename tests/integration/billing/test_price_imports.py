"""Price files over HTTP and on the command line: what is shown, what is changed, and what it settles."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.integration.billing.conftest import BillingApi
from tests.support.callers import checker, system_admin
from tests.support.charging import charge, settling
from tests.support.derivations import explained
from tests.support.events import usage_record
from tests.support.ledger import Books
from tests.support.processes import run_command
from tests.support.stack import ServerPair

PATH = "/api/billing/admin/prices"
FROM = "2026-01-01T00:00:00Z"
AT = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def model() -> str:
    return f"model-{uuid4()}"


def version(model: str, *lists: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"provider": "anthropic", "model": model, "currency": "CHF", "valid_from": FROM, "lists": lists, **more}


def own(*versions: dict[str, Any]) -> str:
    return json.dumps({"format": "rappen.prices.v1", "prices": versions})


def litellm(**entries: dict[str, Any]) -> str:
    return json.dumps(
        {name: {"litellm_provider": "anthropic", "mode": "chat", **rest} for name, rest in entries.items()}
    )


async def post(api: BillingApi, content: str, **query: str) -> httpx.Response:
    return await api.call(system_admin(), "POST", PATH, content=content.encode(), params=query)


async def recorded(api: BillingApi, model: str) -> list[dict[str, Any]]:
    answer = await api.call(system_admin(), "GET", PATH, params={"model": model})
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_one_unreadable_entry_of_our_own_format_changes_nothing(api: BillingApi, model: str) -> None:
    content = own(version(model, {"prices": {"input": "1"}}), version("bad", {"prices": {"input": 1}}))
    unreadable = {
        "entry": "prices[1] anthropic bad",
        "why": "lists[0].prices.input: a decimal string is expected, not a number",
    }
    preview = (await post(api, content, preview="true")).json()
    assert ([entry["model"] for entry in preview["new"]], preview["unreadable"]) == ([model], [unreadable])
    refused = await post(api, content)
    assert (refused.status_code, refused.json()["code"]) == (422, "PRICE_FILE")
    assert refused.json()["errors"] == [{"field": unreadable["entry"], "message": unreadable["why"]}]
    assert await recorded(api, model) == []


async def test_the_rest_of_a_litellm_list_is_taken_and_two_lists_say_what_is_not(api: BillingApi, model: str) -> None:
    prices = {"input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06}
    content = litellm(
        **{
            model: prices,
            f"{model}-part": {**prices, "google_maps_grounding_cost_per_query": 0.025},
            f"{model}-bad": {**prices, "input_cost_per_token": True},
        }
    )
    done = (await post(api, content, format="litellm")).json()
    assert [entry["model"] for entry in done["new"]] == [model, f"{model}-part"]
    assert done["unreadable"] == [{"entry": f"{model}-bad", "why": "input_cost_per_token: a number is expected"}]
    assert done["partlyRead"] == [
        {"entry": f"{model}-part", "why": "taken without: google_maps_grounding_cost_per_query"}
    ]
    again = (await post(api, content, format="litellm")).json()
    unchanged = [entry["model"] for entry in again["unchanged"]]
    assert (again["new"], again["changed"], unchanged) == ([], [], [model, f"{model}-part"])
    assert [item["lists"] for item in await recorded(api, model)] == [
        [{"prices": {"input": "0.000001", "output": "0.000002"}}]
    ]


async def test_a_parameter_that_is_not_known_is_400_and_changes_nothing(api: BillingApi, model: str) -> None:
    refused = await post(api, own(version(model, {"prices": {"input": "1"}})), valid_from=FROM)
    assert (refused.status_code, "valid_from" in refused.json()["detail"]) == (400, True)
    assert await recorded(api, model) == []


async def test_a_number_of_very_many_digits_spoils_its_entry_alone(api: BillingApi, model: str) -> None:
    good, many, odd = f"{model}-good", f"{model}-many", f"{model}-odd"
    entry = '{"litellm_provider": "acme", "mode": "chat", "input_cost_per_token": %s, "max_tokens": %s}'
    content = (
        "{"
        + ", ".join(
            f'"{name}": {entry % numbers}'
            for name, numbers in ((good, ("1e-06", "1")), (many, ("1e-06", "9" * 5000)), (odd, ("9" * 5000, "1")))
        )
        + "}"
    )
    answer = await post(api, content, format="litellm", preview="true")
    assert answer.status_code == 200, answer.text
    assert {entry["model"] for entry in answer.json()["new"]} == {good, many}
    assert [odd in entry["entry"] for entry in answer.json()["unreadable"]] == [True]
    broken = await post(api, '{"a": 1,\n "b": }', format="litellm")
    assert "the file is not JSON at line 2, column 7" in broken.json()["detail"]


async def test_the_wrong_format_is_named(api: BillingApi, model: str) -> None:
    refused = await post(api, litellm(**{model: {"input_cost_per_token": 1e-06}}))
    assert refused.status_code == 422
    assert "--format litellm" in refused.json()["detail"]


async def test_a_new_price_is_shown_with_all_that_it_says(api: BillingApi, model: str) -> None:
    """A mistaken unit shows in what is new too, where nothing is there to be compared with."""
    lists = [{"prices": {"input": "0.003"}}, {"tier": "batch", "prices": {"input": "0.0015"}}]
    new = version(model, *lists, factors=[{"when": {"region": "us"}, "factor": "1.1"}])
    preview = (await post(api, own(new), preview="true")).json()
    assert preview["new"] == [
        {
            "provider": "anthropic",
            "model": model,
            "currency": "CHF",
            "validFrom": FROM,
            "prices": [
                {"price": "input", "where": "", "before": None, "after": "0.003", "tenfold": False},
                {"price": "input", "where": "batch", "before": None, "after": "0.0015", "tenfold": False},
                {"price": "factor", "where": "region us", "before": None, "after": "1.1", "tenfold": False},
            ],
        }
    ]
    assert (preview["changed"], preview["unchanged"], preview["applied"]) == ([], [], False)
    assert await recorded(api, model) == []


async def test_a_changed_price_is_shown_before_and_after_and_marked_beyond_ten_times(
    api: BillingApi, model: str
) -> None:
    await post(api, own(version(model, {"prices": {"input": "0.000003", "output": "0.000015"}})))
    changed = version(model, {"prices": {"input": "3", "output": "0.00002"}}, valid_from="2026-02-01T00:00:00Z")
    (change,) = (await post(api, own(changed), preview="true")).json()["changed"]
    assert change == {
        "provider": "anthropic",
        "model": model,
        "currency": "CHF",
        "currencyBefore": "CHF",
        "validFrom": "2026-02-01T00:00:00Z",
        "tenfold": True,
        "prices": [
            {"price": "input", "where": "", "before": "0.000003", "after": "3", "tenfold": True},
            {"price": "output", "where": "", "before": "0.000015", "after": "0.00002", "tenfold": False},
        ],
    }


async def test_an_import_settles_exactly_what_it_says(api: BillingApi, mandate: str, books: Books, model: str) -> None:
    """By date, tier and unit: everything that waits is of the imported model, and most of it waits on."""
    common: dict[str, Any] = {"cost": None, "model": model, "at": AT}
    tokens = {"tokens": {"input": 1000}}
    await charge(
        api.database,
        usage_record(mandate, **common, **tokens),
        usage_record(mandate, **common, **tokens, service_tier="default"),
        usage_record(mandate, **common, tokens={"input": 1, "reasoning": 5}),
        usage_record(mandate, **{**common, "at": datetime(2025, 6, 1, tzinfo=UTC)}, **tokens),
        usage_record(mandate, **common, **tokens, service_tier="flex"),
        usage_record(mandate, **common, **tokens, service_tier="auto"),
        usage_record(mandate, **common, quantities={"images": "1"}),
        usage_record(mandate, **common, tokens={"cache_write": 5}),
    )
    content = own(version(model, {"prices": {"input": "0.001", "output": "0.002"}}))
    settles = [{"provider": "anthropic", "model": model, "events": 3, "stillParked": 5}]
    assert (await post(api, content, preview="true")).json()["settles"] == settles
    assert (await post(api, content)).json()["settles"] == settles
    assert await books.parked([mandate]) == 8, "a job of the workers settles them, not the import"
    await _settle(api)
    assert await books.charged([mandate]) == 3
    listed = await api.call(
        system_admin(), "GET", "/api/billing/admin/unpriced", params={"mandateId": mandate, "limit": "100"}
    )
    missing = sorted(item["missing"].removeprefix(f"anthropic {model} ") for item in listed.json()["items"])
    assert missing == [
        "has no price before 2026-01-01T00:00:00Z",
        "has no price for cache_write",
        "has no price for images",
        "has no price for input in tier auto: that is what was asked for, not what was served",
        "has no price for input in tier flex: the tier has no price",
    ]
    assert await books.failing() == {}


async def test_a_parked_event_that_cannot_be_read_is_no_fault_of_the_file(
    api: BillingApi, mandate: str, books: Books, model: str
) -> None:
    broken = uuid4()
    tokens = {"input": 1}
    await charge(api.database, usage_record(mandate, event_id=broken, cost=None, model=model, tokens=tokens))
    await charge(api.database, usage_record(mandate, cost=None, model=model, tokens=tokens))
    await books.fetch("UPDATE unposted_events SET event = 'no JSON' WHERE event_id = $1", broken)
    answer = await post(api, own(version(model, {"prices": {"input": "1"}})), preview="true")
    assert answer.status_code == 200, answer.text
    settles = [entry for entry in answer.json()["settles"] if entry["model"] == model]
    assert [(entry["events"], entry["stillParked"]) for entry in settles] == [(1, 1)]


async def test_a_model_priced_in_a_currency_without_a_rate_settles_nothing(
    api: BillingApi, mandate: str, model: str
) -> None:
    await charge(api.database, usage_record(mandate, cost=None, model=model, at=AT, tokens={"input": 1}))
    content = own(version(model, {"prices": {"input": "1"}}, currency="XPF"))
    (settles,) = (await post(api, content, preview="true")).json()["settles"]
    assert (settles["events"], settles["stillParked"]) == (0, 1)


async def test_a_charge_says_what_a_kind_was_priced_as_and_the_check_asks_the_same(
    api: BillingApi, mandate: str, books: Books, model: str
) -> None:
    await post(
        api,
        own(
            version(
                model,
                {"prices": {"input": "0.001", "output": "0.002", "cache_read": "0.0001"}},
                {"tier": "batch", "prices": {"input": "0.0005", "output": "0.001"}},
            )
        ),
    )
    tokens = {"input": 100, "cache_read": 900, "reasoning": 10}
    usage = {"model": model, "tokens": tokens, "service_tier": "batch"}
    estimate = {"provider": "anthropic", **usage}
    checked = await api.call(
        checker(),
        "POST",
        "/api/billing/check",
        json={"mandateId": mandate, "userId": "user-1", "estimate": estimate},
    )
    assert checked.json()["requiredAmount"]["amount"] == "0.225000"
    await charge(api.database, usage_record(mandate, cost=None, at=AT, **usage))
    assert await books.cost([mandate]) == 225_000
    (rated,) = await explained(api.database, mandate)
    assert rated.price is not None
    assert rated.price.lines == [
        ("input", 100, "0.0005", "1"),
        ("cache_read", 900, "0.0001", "1"),
        ("reasoning", 10, "0.001", "1"),
    ]
    assert rated.price.priced_as == {"cache_read": "at the standard price", "reasoning": "as output"}


async def test_the_command_shows_everything_when_asked_and_says_when_it_does_not(
    servers: ServerPair, api: BillingApi, tmp_path: Path, model: str
) -> None:
    prices = {"input_cost_per_token": 1e-06}
    entries = {f"{model}-{number}": prices for number in range(45)}
    entries |= {f"{model}-bad-{number}": {"input_cost_per_token": None} for number in range(45)}
    file = tmp_path / "list.json"
    file.write_text(litellm(**entries))
    command = ("prices", "import", str(file))
    wrong = run_command(servers, "billing", *command)
    assert (wrong.returncode, "--format litellm" in wrong.stderr) == (1, True)
    short = run_command(servers, "billing", *command, "--format", "litellm")
    assert short.stdout.count("new  ") == 41
    assert short.stdout.count("and 5 more (--all shows them)") == 2
    whole = run_command(servers, "billing", *command, "--format", "litellm", "--all", "--valid-from", FROM, "--apply")
    assert whole.returncode == 0, whole.stderr
    assert (whole.stdout.count("new  "), whole.stdout.count("not read  "), "more" in whole.stdout) == (45, 45, False)
    assert "45 new, 0 changed, 0 unchanged" in whole.stdout
    assert [item["valid_from"] for item in await recorded(api, f"{model}-0")] == [FROM]
    again = run_command(servers, "billing", *command, "--format", "litellm", "--all", "--valid-from", FROM)
    assert again.stdout.count("unchanged   anthropic") == 45
    file.write_text(litellm(**{f"{model}-0": {"input_cost_per_token": 1}}))
    dearer = run_command(servers, "billing", *command, "--format", "litellm")
    assert "input: 0.000001 -> 1  MORE THAN TEN TIMES" in dearer.stdout
    assert "1 changed (1 by more than ten times)" in dearer.stdout


async def test_the_command_refuses_a_time_that_cannot_be_and_a_file_that_is_readable_in_part(
    servers: ServerPair, api: BillingApi, tmp_path: Path, model: str
) -> None:
    file = tmp_path / "prices.json"
    file.write_text(own(version(model, {"prices": {"input": "1"}}), {"provider": "acme"}))
    command = ("prices", "import", str(file))
    for time in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "yesterday"):
        refused = run_command(servers, "billing", *command, "--valid-from", time)
        assert refused.returncode == 2
        assert "--valid-from" in refused.stderr
    assert run_command(servers, "billing", *command).returncode == 0
    refused = run_command(servers, "billing", *command, "--apply")
    assert refused.returncode == 1
    assert "prices[1] acme: model: is missing" in refused.stdout
    assert "nothing was changed" in refused.stderr
    assert await recorded(api, model) == []


async def _settle(api: BillingApi) -> None:
    """What the job of a worker does until nothing is left to look at."""
    settle = settling(api.database)
    while await settle():
        pass
