"""Round numbers: what databases and publishers write with an exponent leaves us in full."""

import json

import pytest

from rappen_contracts.types import parse_decimal
from services.billing.money import plain
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import checker, system_admin
from tests.support.charging import charge
from tests.support.derivations import explained
from tests.support.events import usage_record
from tests.support.ledger import Books

CHF_10000 = {"amount": "10000.000000", "currency": "CHF"}


@pytest.mark.parametrize("amount", ["10000", "1E+4", "10000.00", "+1e4"])
async def test_round_amounts_are_the_same_however_they_are_written(
    api: BillingApi, mandate: str, books: Books, amount: str
) -> None:
    admin = system_admin()
    rate = {"currency": "XPF", "rate": "1e2", "validFrom": "2020-01-01T00:00:00Z"}
    assert (await api.call(admin, "POST", "/api/billing/admin/rates", json=rate)).json()["rate"] == "100"
    listed = (await api.call(admin, "GET", "/api/billing/admin/rates")).json()["items"]
    assert "100" in [entry["rate"] for entry in listed if entry["currency"] == "XPF"]
    terms = {"markupPercent": 100, "creditLimit": {"amount": "1e4", "currency": "CHF"}}
    answer = await api.call(admin, "PUT", f"/api/billing/admin/terms/{mandate}", json=terms)
    assert answer.json()["creditLimit"] == CHF_10000
    await api.call(admin, "POST", f"/api/billing/admin/credit/{mandate}", json={"amount": 100_000})

    await charge(api.database, usage_record(mandate, amount=amount, currency="XPF"))
    text = await books.value(
        "SELECT derivation FROM transactions t JOIN mandates m ON m.no = t.mandate_no"
        " WHERE m.id = $1 AND derivation IS NOT NULL",
        mandate,
    )
    derivation = json.loads(text)
    assert derivation["markup"] == "100"
    for text in (derivation["cost"]["amount"], derivation["carry_before"], derivation["carry_after"]):
        assert "E" not in text.upper()
        parse_decimal(text)
    (rated,) = await explained(api.database, mandate)
    assert (plain(rated.rate.rate), rated.exact) == ("100", 2_000_000)

    body = {"mandateId": mandate, "userId": "user-1", "estimate": {"cost": {"amount": amount, "currency": "CHF"}}}
    answer = await api.call(checker(), "POST", "/api/billing/check", json=body)
    assert answer.json()["currentBalance"] == {"amount": "-1900000.000000", "currency": "CHF"}
    assert answer.json()["requiredAmount"] == {"amount": "20000.000000", "currency": "CHF"}
    balance = await api.call(admin, "GET", f"/api/billing/admin/accounts/{mandate}")
    assert "-1900000.000000" in balance.text
    assert "e+" not in balance.text.lower()
