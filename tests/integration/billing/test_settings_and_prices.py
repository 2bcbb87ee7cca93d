"""Settings, prices, rates and what waits for them, over HTTP."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from pydantic import TypeAdapter

from services.billing.mandates.bodies import SettingsChange
from services.billing.money import plain
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, member_of, system_admin
from tests.support.charging import charge
from tests.support.derivations import explained
from tests.support.events import new_mandate, usage_record
from tests.support.ledger import Books
from tests.support.stack import ROOT

SETTINGS = "/api/billing/admin/settings/{}"
ADDRESS = {"company": "Acme AG", "street": "Weg 1", "zip": "8000", "city": "Zürich"}
DEFAULTS = {
    "billingModel": "PREPAY_MANDATE",
    "defaultUserCredit": 10,
    "warningThresholdPercent": 10,
    "blockOnZeroBalance": True,
    "billingAddress": None,
    "notifyEmails": [],
    "notifyOnWarning": True,
    "autoRechargeEnabled": False,
    "rechargeAmountCHF": 10,
    "rechargeMaxPerMonth": 3,
    "markupPercent": None,
    "timeZone": "Europe/Zurich",
    "lateEvents": "own",
    "lateEventDays": 0,
}


async def test_a_new_mandate_has_the_defaults(api: BillingApi, mandate: str) -> None:
    settings = (await api.call(admin_of(mandate), "GET", SETTINGS.format(mandate))).json()
    assert {name: settings[name] for name in DEFAULTS} == DEFAULTS
    assert settings["mandateId"] == mandate


async def test_settings_change_in_part_and_are_audited(api: BillingApi, mandate: str, books: Books) -> None:
    given = {"warningThresholdPercent": 12.5, "notifyEmails": ["a@example.org"], "rechargeAmountCHF": 25}
    after = (await api.call(admin_of(mandate), "POST", SETTINGS.format(mandate), json=given)).json()
    assert {name: after[name] for name in given} == given
    assert after["rechargeMaxPerMonth"] == 3
    (row,) = await books.fetch(
        "SELECT actor, before, after FROM audit_log l JOIN mandates m ON m.no = l.mandate_no WHERE m.id = $1", mandate
    )
    assert row["actor"] == "admin-1"
    assert json.loads(row["before"])["notifyEmails"] == []
    assert json.loads(row["after"])["notifyEmails"] == ["a@example.org"]
    emptied = (await api.call(admin_of(mandate), "POST", SETTINGS.format(mandate), json={"notifyEmails": []})).json()
    assert emptied["notifyEmails"] == []


async def test_the_whole_object_may_be_sent_back(api: BillingApi, mandate: str, books: Books) -> None:
    whole = (await api.call(admin_of(mandate), "GET", SETTINGS.format(mandate))).json()
    answer = await api.call(admin_of(mandate), "POST", SETTINGS.format(mandate), json={**whole, "unknown": 1})
    assert (answer.status_code, answer.json()) == (200, whole)
    assert (
        await books.value(
            "SELECT count(*) FROM audit_log l JOIN mandates m ON m.no = l.mandate_no WHERE m.id = $1", mandate
        )
        == 0
    )


async def test_an_empty_body_changes_nothing(api: BillingApi, mandate: str) -> None:
    whole = (await api.call(admin_of(mandate), "GET", SETTINGS.format(mandate))).json()
    for request in ({}, {"content": b""}, {"content": b"{}"}):
        answer = await api.call(admin_of(mandate), "POST", SETTINGS.format(mandate), **request)
        assert (answer.status_code, answer.json()) == (200, whole), answer.text
    for content in (b"[]", b'""', b" ", b"{"):
        refused = await api.call(admin_of(mandate), "POST", SETTINGS.format(mandate), content=content)
        assert refused.status_code == 422, content
    assert (await api.call(member_of(mandate), "POST", SETTINGS.format(mandate))).status_code == 403
    assert (await api.call(system_admin(), "POST", SETTINGS.format(new_mandate()))).status_code == 404


@pytest.mark.parametrize("given", [{"markupPercent": 10}, {"defaultUserCredit": 1}, {"blockOnZeroBalance": False}])
async def test_what_is_the_operators_is_403_for_a_mandate_admin(
    api: BillingApi, mandate: str, given: dict[str, Any]
) -> None:
    assert (await api.call(admin_of(mandate), "POST", SETTINGS.format(mandate), json=given)).status_code == 403
    assert (await api.call(system_admin(), "POST", SETTINGS.format(mandate), json=given)).status_code == 200


async def test_the_billing_model_is_switched_elsewhere(api: BillingApi, mandate: str) -> None:
    given = {"billingModel": "UNLIMITED"}
    refused = await api.call(system_admin(), "POST", SETTINGS.format(mandate), json=given)
    assert (refused.status_code, refused.json()["code"]) == (409, "BILLING_MODEL_FIXED")
    assert mandate in refused.json()["detail"]
    assert (await api.call(admin_of(mandate), "POST", SETTINGS.format(mandate), json=given)).status_code == 403


@pytest.mark.parametrize(
    "given",
    [
        {"warningThresholdPercent": 101},
        {"warningThresholdPercent": -1},
        {"warningThresholdPercent": "10"},
        {"rechargeAmountCHF": 0},
        {"rechargeMaxPerMonth": 1.5},
        {"rechargeMaxPerMonth": -1},
        {"notifyEmails": ["nobody"]},
        {"notifyEmails": "a@b.ch"},
        {"timeZone": "Mars/Olympus"},
        {"timeZone": "localtime"},
        {"timeZone": "Factory"},
        {"lateEvents": "never"},
        {"billingAddress": {"company": "x"}},
        {"billingAddress": {"company": "\u0000", "street": "", "zip": "", "city": ""}},
        *({"billingAddress": {**ADDRESS, part: " \t\u00a0"}} for part in ("company", "street", "zip", "city")),
        {"billingAddress": dict.fromkeys(ADDRESS, "")},
        {"markupPercent": 1e300},
        {"markupPercent": 0.0000001},
        {"markupPercent": -1},
        {"rechargeMaxPerMonth": 2**31},
        {"lateEventDays": 2**31},
        {"lateEventDays": -1},
        {"defaultUserCredit": 0.0000001},
    ],
)
async def test_settings_out_of_range_are_422_with_their_field(
    api: BillingApi, mandate: str, given: dict[str, Any]
) -> None:
    answer = await api.call(system_admin(), "POST", SETTINGS.format(mandate), json=given)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"].startswith(next(iter(given)))


async def test_settings_are_as_large_as_their_columns_and_the_ceiling(
    api: BillingApi, mandate: str, books: Books
) -> None:
    largest = {
        "rechargeMaxPerMonth": 2**31 - 1,
        "lateEventDays": 2**31 - 1,
        "markupPercent": "99999999999.999999",
        "rechargeAmountCHF": "99999.999999",
        "defaultUserCredit": "99999.999999",
    }
    content = "{" + ",".join(f'"{name}":{number}' for name, number in largest.items()) + "}"
    answer = await api.call(system_admin(), "POST", SETTINGS.format(mandate), content=content.encode())
    assert answer.status_code == 200, answer.text
    exact = json.loads(answer.content, parse_float=str)
    assert {name: exact[name] for name in largest} == largest
    # Usage is still priced to the last digit.
    await charge(api.database, usage_record(mandate, amount="1.23"))
    exact_micros = Decimal("1.23") * (100 + Decimal("99999999999.999999")) * 10_000
    (row,) = await books.fetch(
        "SELECT t.amount, a.rounding_remainder FROM transactions t JOIN mandates m ON m.no = t.mandate_no"
        " JOIN accounts a ON a.mandate_no = t.mandate_no AND a.no = t.posted_account_no"
        " WHERE m.id = $1 AND t.contra_account = 'REVENUE'",
        mandate,
    )
    assert row["amount"] + row["rounding_remainder"].scaleb(6) == exact_micros
    assert await books.failing() == {}


async def test_the_largest_settings_are_in_the_document() -> None:
    settings = TypeAdapter(SettingsChange).json_schema()["properties"]
    for name, least in (("markupPercent", "minimum"), ("rechargeAmountCHF", "exclusiveMinimum")):
        number = {"type": "number", least: 0, "exclusiveMaximum": 10**11}
        assert settings[name]["anyOf"] == [number, {"type": "null"}]
    for name in ("rechargeMaxPerMonth", "lateEventDays"):
        assert settings[name]["anyOf"] == [{"type": "integer", "minimum": 0, "maximum": 2**31 - 1}, {"type": "null"}]


async def test_every_blank_part_of_an_address_is_named(api: BillingApi, mandate: str) -> None:
    given = {"billingAddress": {**dict.fromkeys(ADDRESS, " "), "vatNumber": ""}}
    answer = await api.call(admin_of(mandate), "POST", SETTINGS.format(mandate), json=given)
    assert answer.status_code == 422, answer.text
    assert [fault["field"] for fault in answer.json()["errors"]] == [f"billingAddress.{part}" for part in ADDRESS]
    switch = {"billingModel": "CREDIT_POSTPAY"}
    path = f"/api/billing/admin/model/{mandate}"
    assert (await api.call(system_admin(), "POST", path, json=switch)).status_code != 200
    given = {"billingAddress": {**ADDRESS, "vatNumber": ""}}
    assert (await api.call(admin_of(mandate), "POST", SETTINGS.format(mandate), json=given)).status_code == 200
    assert (await api.call(system_admin(), "POST", path, json=switch)).status_code == 200


async def test_the_country_of_an_address_is_one_of_the_world(api: BillingApi, mandate: str, books: Books) -> None:
    async def sent(country: str) -> httpx.Response:
        given = {"billingAddress": {**ADDRESS, "country": country}}
        return await api.call(admin_of(mandate), "POST", SETTINGS.format(mandate), json=given)

    for country in ("UK", "XX", "EU", "AA", "ch", "CHE"):
        refused = await sent(country)
        assert refused.status_code == 422, (country, refused.text)
        assert [fault["field"] for fault in refused.json()["errors"]] == ["billingAddress.country"]
    for country in ("LI", "US", "GB", "CH"):
        assert (await sent(country)).json()["billingAddress"]["country"] == country
    # One that was taken before is shown, and no fault of whoever sends it back.
    await books.fetch(
        "UPDATE mandates SET billing_address = jsonb_set(billing_address, '{country}', '\"UK\"') WHERE id = $1", mandate
    )
    shown = (await api.call(admin_of(mandate), "GET", SETTINGS.format(mandate))).json()
    assert shown["billingAddress"]["country"] == "UK"
    again = await api.call(
        admin_of(mandate), "POST", SETTINGS.format(mandate), json={**shown, "notifyOnWarning": False}
    )
    assert again.status_code == 200, again.text
    assert (again.json()["billingAddress"], again.json()["notifyOnWarning"]) == (shown["billingAddress"], False)


async def test_settings_are_for_administrators(api: BillingApi, mandate: str) -> None:
    assert (await api.call(member_of(mandate), "GET", SETTINGS.format(mandate))).status_code == 403
    assert (await api.call(member_of(mandate), "POST", SETTINGS.format(mandate), json={"x": []})).status_code == 403
    assert (await api.call(system_admin(), "GET", SETTINGS.format(new_mandate()))).status_code == 404


async def test_errors_speak_german_when_asked(api: BillingApi, mandate: str) -> None:
    answer = await api.call(
        member_of(mandate), "GET", SETTINGS.format(mandate), headers={"Accept-Language": "de-CH,de;q=0.9"}
    )
    assert answer.json()["detail"] == "Sie dürfen das nicht."


async def test_prices_and_rates_are_the_operators(api: BillingApi, mandate: str) -> None:
    for path in ("prices", "rates", "unpriced", "unknown"):
        answer = await api.call(admin_of(mandate), "GET", f"/api/billing/admin/{path}")
        assert answer.status_code == 403


async def test_a_price_file_is_previewed_and_applied_once(api: BillingApi) -> None:
    content = (ROOT / "deploy" / "simulator" / "prices.json").read_bytes()
    path = "/api/billing/admin/prices"
    preview = (await api.call(system_admin(), "POST", path, content=content, params={"preview": "true"})).json()
    assert len(preview["new"]) > 10
    assert (preview["applied"], preview["unreadable"]) == (False, [])
    applied = (await api.call(system_admin(), "POST", path, content=content)).json()
    assert applied["new"] == preview["new"]
    again = (await api.call(system_admin(), "POST", path, content=content)).json()
    assert (again["new"], again["changed"], len(again["unchanged"])) == ([], [], len(preview["new"]))
    listed = (await api.call(system_admin(), "GET", path, params={"limit": "5"})).json()
    assert len(listed["items"]) == 5
    assert listed["nextCursor"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a":NaN}', b"\xff", b'{"format":"x"}'])
async def test_what_is_no_price_file_is_a_problem(api: BillingApi, content: bytes) -> None:
    answer = await api.call(system_admin(), "POST", "/api/billing/admin/prices", content=content)
    assert (answer.status_code, answer.json()["code"]) == (422, "PRICE_FILE")


async def test_a_rate_is_added_and_listed(api: BillingApi) -> None:
    given = {"currency": "SEK", "rate": "0.0853", "validFrom": "2026-01-01T00:00:00+01:00"}
    answer = await api.call(system_admin(), "POST", "/api/billing/admin/rates", json=given)
    added = answer.json()
    kept = {"currency": "SEK", "rate": "0.0853", "validFrom": "2025-12-31T23:00:00Z"}
    told = {"inForce": True, "replacedBy": None, "unusable": None, "createdBy": "root"}
    assert added == {"id": added["id"], "createdAt": added["createdAt"], **kept, **told}
    listed = (await api.call(system_admin(), "GET", "/api/billing/admin/rates")).json()["items"]
    assert added in listed


async def test_a_round_rate_has_no_exponent_anywhere(api: BillingApi, mandate: str) -> None:
    given = {"currency": "KWD", "rate": "1E+2", "validFrom": "2026-01-01T00:00:00Z"}
    added = (await api.call(system_admin(), "POST", "/api/billing/admin/rates", json=given)).json()
    assert added["rate"] == "100"
    await charge(api.database, usage_record(mandate, amount="2", currency="KWD"))
    (rated,) = await explained(api.database, mandate)
    assert (rated.rate.id, plain(rated.rate.rate)) == (str(added["id"]), "100")


async def test_one_rate_of_a_currency_is_in_force_and_it_shows_which(api: BillingApi) -> None:
    path = "/api/billing/admin/rates"
    for rate, valid_from in (
        ("0.30", "2025-01-01T00:00:00Z"),
        ("0.31", "2026-01-01T00:00:00Z"),
        ("0.32", "2026-01-01T00:00:00Z"),
        ("100", "2190-01-01T00:00:00Z"),
    ):
        given = {"currency": "DKK", "rate": rate, "validFrom": valid_from}
        assert (await api.call(system_admin("someone"), "POST", path, json=given)).status_code == 200
    items = (await api.call(system_admin(), "GET", path, params={"currency": "DKK"})).json()["items"]
    assert [(item["rate"], item["inForce"], item["createdBy"]) for item in items] == [
        ("100", False, "someone"),
        ("0.32", True, "someone"),
        ("0.31", False, "someone"),
        ("0.30", False, "someone"),
    ]
    assert [item["replacedBy"] for item in items] == [None, None, items[1]["id"], None]
    assert all(item["createdAt"] for item in items)


async def test_a_filter_narrows_the_list_and_one_that_is_not_known_is_400(api: BillingApi) -> None:
    for path in ("prices", "rates", "unpriced"):
        refused = await api.call(system_admin(), "GET", f"/api/billing/admin/{path}", params={"colour": "red"})
        assert (refused.status_code, refused.json()["code"]) == (400, "MALFORMED_PARAMETER")
        assert "colour" in refused.json()["detail"]
    content = (ROOT / "deploy" / "simulator" / "prices.json").read_bytes()
    await api.call(system_admin(), "POST", "/api/billing/admin/prices", content=content)
    found: dict[str, list[Any]] = {}
    for only in ({"provider": "openai"}, {"provider": "openai", "model": "gpt-4o"}, {"provider": "nobody"}):
        answer = await api.call(system_admin(), "GET", "/api/billing/admin/prices", params=only)
        found[str(only)] = answer.json()["items"]
        assert all(item["provider"] == only["provider"] for item in found[str(only)])
    several, one, none = found.values()
    assert len(several) > 1
    assert {item["model"] for item in one} == {"gpt-4o"}
    assert none == []
    assert sum(1 for item in one if item["inForce"]) == 1


@pytest.mark.parametrize(
    "given",
    [
        {"currency": "CHF", "rate": "1", "validFrom": "2026-01-01T00:00:00Z"},
        {"currency": "XXX", "rate": "1", "validFrom": "2026-01-01T00:00:00Z"},
        {"currency": "USD", "rate": 0.9, "validFrom": "2026-01-01T00:00:00Z"},
        {"currency": "USD", "rate": "0", "validFrom": "2026-01-01T00:00:00Z"},
        {"currency": "USD", "rate": "-1", "validFrom": "2026-01-01T00:00:00Z"},
        {"currency": "USD", "rate": "1000000", "validFrom": "2026-01-01T00:00:00Z"},
        {"currency": "USD", "rate": "1E+13", "validFrom": "2026-01-01T00:00:00Z"},
        {"currency": "USD", "rate": "1", "validFrom": "2026-01-01T00:00:00"},
        {"currency": "USD", "rate": "1", "validFrom": "0001-01-01T00:00:00Z"},
        {"currency": "USD", "rate": "1", "validFrom": "1999-12-31T23:59:59.999999Z"},
        {"currency": "USD", "rate": "1", "validFrom": "2200-01-01T00:00:00Z"},
        {"currency": "USD", "rate": "1", "validFrom": "9999-12-31T23:59:59.999999Z"},
    ],
)
async def test_a_bad_rate_is_422_with_its_field(api: BillingApi, given: dict[str, Any]) -> None:
    answer = await api.call(system_admin(), "POST", "/api/billing/admin/rates", json=given)
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    good = {"currency": "USD", "rate": "1", "validFrom": "2026-01-01T00:00:00Z"}
    assert [fault["field"]] == [name for name in given if given[name] != good[name]]


@pytest.mark.parametrize("valid_from", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2200-01-01T00:00:00Z"])
async def test_a_price_from_a_time_that_cannot_be_is_refused(api: BillingApi, valid_from: str) -> None:
    path = "/api/billing/admin/prices"
    content = (ROOT / "deploy" / "simulator" / "prices.json").read_bytes()
    refused = await api.call(system_admin(), "POST", path, content=content, params={"validFrom": valid_from})
    assert refused.status_code == 422
    assert refused.json()["errors"] == [{"field": "validFrom", "message": "a time from 2000 to 2199 is expected"}]
    version = {"provider": "acme", "model": "late", "currency": "USD", "valid_from": valid_from}
    content = json.dumps({"format": "rappen.prices.v1", "prices": [{**version, "lists": [{"prices": {"input": "1"}}]}]})
    told = await api.call(system_admin(), "POST", path, content=content, params={"preview": "true"})
    assert told.json()["unreadable"] == [
        {"entry": "prices[0] acme late", "why": "valid_from: a time from 2000 to 2199 is expected"}
    ]


async def test_a_new_time_zone_counts_from_the_next_month_on(api: BillingApi, mandate: str, books: Books) -> None:
    """Usage of this month keeps the day it has in the old zone, also what was charged before and comes late."""
    path, zurich = f"/api/billing/admin/settings/{mandate}", ZoneInfo("Europe/Zurich")
    # One in which it is another day now.
    other = "Pacific/Kiritimati" if datetime.now(zurich).hour >= 12 else "Pacific/Pago_Pago"
    changed = await api.call(system_admin(), "POST", path, json={"timeZone": other})
    assert changed.json()["timeZone"] == other
    await api.call(system_admin(), "POST", f"/api/billing/admin/credit/{mandate}", json={"amount": 1})
    row = (
        await books.fetch(
            "SELECT t.period_day, t.occurred_at, m.past_time_zones FROM transactions t JOIN mandates m"
            " ON m.no = t.mandate_no WHERE m.id = $1",
            mandate,
        )
    )[0]
    assert row["period_day"] == row["occurred_at"].astimezone(zurich).date()
    assert "Europe/Zurich" in row["past_time_zones"]
    back = await api.call(system_admin(), "POST", path, json={"timeZone": "Europe/Zurich"})
    assert back.json()["timeZone"] == "Europe/Zurich"
    assert await books.value("SELECT past_time_zones FROM mandates WHERE id = $1", mandate) == "[]"
