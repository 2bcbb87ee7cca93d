"""Invoices over HTTP: who sees which, page by page, and the PDF with its QR-bill and the structured invoice inside."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from facturx import get_xml_from_pdf
from lxml import etree

from rappen_contracts.subscription.v1 import Plan
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.ledger.domain import transaction_id
from services.chassis.caller import Caller
from services.chassis.lists.cursors import cursor_of
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, checker, member_of, system_admin
from tests.support.documents import page_texts, qr_codes
from tests.support.facts import money, subscription
from tests.support.invoicing import Postpaid
from tests.support.ledger import Books

JULY, AUGUST = datetime(2026, 6, 30, 22, tzinfo=UTC), datetime(2026, 7, 31, 22, tzinfo=UTC)
PATH = "/api/billing/invoices"


async def invoiced(api: BillingApi, *prices: str) -> Postpaid:
    """A mandate with an invoice for each price, one a month."""
    mandate = await Postpaid(api.database, JULY).begin()
    for number, price in enumerate(prices):
        await mandate.use(price)
        mandate.later(days=31)
        await mandate.close(2026, 7 + number)
    return mandate


async def get(api: BillingApi, caller: Caller | None, path: str = "", **more: Any) -> Any:
    """The answer, which has to be one."""
    answer = await api.call(caller, "GET", PATH + path, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_administrator_sees_the_invoices_of_their_mandates(api: BillingApi) -> None:
    mandate, foreign = await invoiced(api, "10", "20"), await invoiced(api, "5")
    own = admin_of(mandate.id)
    page = await get(api, own)
    assert [each["total"]["amount"] for each in page["items"]] == ["20.000000", "10.000000"]
    assert page == await get(api, own, params={"mandateId": mandate.id})
    assert page["nextCursor"] is None
    both = await get(api, admin_of(mandate.id, foreign.id))
    assert {each["mandateId"] for each in both["items"]} == {mandate.id, foreign.id}
    # One's own, and another's that one is a plain member of.
    mixed = Caller(user_id="admin-1", mandates={mandate.id: True, foreign.id: False})
    assert await get(api, mixed) == page
    assert await get(api, member_of(mandate.id)) == {"items": [], "nextCursor": None}
    assert await get(api, Caller(user_id="nobody")) == {"items": [], "nextCursor": None}
    unknown = await api.call(system_admin(), "GET", PATH, params={"mandateId": "no-such-mandate"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "MANDATE_UNKNOWN")
    shown = await get(api, system_admin(), params={"mandateId": foreign.id})
    assert [each["mandateId"] for each in shown["items"]] == [foreign.id]


async def test_pages_follow_each_other(api: BillingApi) -> None:
    mandate = await invoiced(api, "1", "2", "3")
    own, seen, cursor = admin_of(mandate.id), [], None
    while True:
        params = {"limit": "1"} | ({} if cursor is None else {"cursor": cursor})
        page = await get(api, own, params=params)
        seen += [each["total"]["amount"] for each in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert seen == ["3.000000", "2.000000", "1.000000"]


async def test_a_cursor_tells_nothing_of_the_invoices_of_others(api: BillingApi) -> None:
    mandate, foreign = await invoiced(api, "1", "2"), await invoiced(api, "3")
    ids = [each["id"] for each in (await get(api, admin_of(foreign.id)))["items"]]
    # An id can be guessed; whether there is such an invoice must not show.
    for given in [*ids, str(uuid4())]:
        answer = await api.call(admin_of(mandate.id), "GET", PATH, params={"cursor": given})
        assert (answer.status_code, answer.json()["code"]) == (400, "MALFORMED_PARAMETER")
    # With another's cursor one gets one's own.
    both = (await get(api, admin_of(mandate.id, foreign.id), params={"limit": "1"}))["nextCursor"]
    shown = await get(api, admin_of(mandate.id), params={"cursor": both})
    assert {each["mandateId"] for each in shown["items"]} == {mandate.id}


@pytest.mark.parametrize("number", [2**40, 2**63 - 1, -(2**63), -1, 2**63, None, True, 1.5, "1", []])
async def test_a_cursor_with_any_number_is_answered(api: BillingApi, mandate: str, number: Any) -> None:
    answer = await api.call(admin_of(mandate), "GET", PATH, params={"cursor": cursor_of("invoices", [number, number])})
    assert answer.status_code in (200, 400)


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({"cursor": "x"}, 400, "MALFORMED_PARAMETER"),
        ({"limit": "0"}, 400, "MALFORMED_PARAMETER"),
        ({"limit": "1001"}, 400, "MALFORMED_PARAMETER"),
        ({"mandateId": "a b"}, 400, "MALFORMED_PARAMETER"),
        ({"mandateId": "no-such-mandate"}, 403, "FORBIDDEN"),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    api: BillingApi, mandate: str, params: dict[str, str], status: int, code: str
) -> None:
    answer = await api.call(admin_of(mandate), "GET", PATH, params=params)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_whose_invoice_it_is_not_finds_none(api: BillingApi) -> None:
    mandate = await invoiced(api, "10")
    (invoice,) = (await get(api, admin_of(mandate.id)))["items"]
    named = [f"/{invoice['id']}", f"/{invoice['id']}/pdf"]
    for caller in (member_of(mandate.id), admin_of("another"), Caller(user_id="nobody")):
        for path in [*named, f"/{uuid4()}", f"/{uuid4()}/pdf", "/x"]:
            answer = await api.call(caller, "GET", PATH + path)
            assert (answer.status_code, answer.json()["code"]) == (404, "INVOICE_UNKNOWN")
    answer = await api.call(member_of(mandate.id), "GET", PATH, params={"mandateId": mandate.id})
    assert answer.status_code == 403
    assert (await api.call(checker(), "GET", PATH)).status_code == 403
    assert (await api.call(None, "GET", PATH)).status_code == 401
    assert (await get(api, system_admin(), named[0]))["number"] == invoice["number"]


async def test_the_pdf_says_what_the_law_wants_and_can_be_paid(api: BillingApi) -> None:
    mandate = await invoiced(api, "108.1")
    (invoice,) = (await get(api, admin_of(mandate.id)))["items"]
    path = f"{PATH}/{invoice['id']}/pdf"
    answer = await api.call(admin_of(mandate.id), "GET", path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf")
    assert answer.headers["content-disposition"] == f'attachment; filename="Rechnung-{invoice["number"]}.pdf"'
    (page,) = page_texts(answer.content)
    for said in (
        *("Muster Plattform AG", "Limmatquai 12", "8001 Zürich", "CHE-123.456.788 MWST"),
        *("Acme AG", "Bahnhofstrasse 1", "CHE-987.654.321 MWST"),
        *(f"Rechnung {invoice['number']}", "01.07.2026 - 31.07.2026", "01.08.2026"),
        *("AI-Nutzung · anthropic · claude-sonnet-4-5 · chat", "MWST 8.1 %", "CHF 8.10", "CHF 100.00", "CHF 108.10"),
        *("Empfangsschein", "Zahlteil"),
    ):
        assert said in page, said
    (code,) = qr_codes(answer.content)
    fields = code.split("\r\n")
    assert fields[:4] == ["SPC", "0200", "1", "CH9300762011623852957"]
    # Addresses in parts, which alone are valid; amount, reference and message.
    assert fields[4:11] == ["S", "Muster Plattform AG", "Limmatquai", "12", "8001", "Zürich", "CH"]
    assert fields[18:20] == ["108.10", "CHF"]
    assert fields[20:27] == ["S", "Acme AG", "Bahnhofstrasse", "1", "8001", "Zürich", "CH"]
    assert fields[27:31] == ["SCOR", invoice["reference"], invoice["number"], "EPD"]
    # The same bytes from then on, and in another language another document.
    assert (await api.call(admin_of(mandate.id), "GET", path)).content == answer.content
    english = await api.call(admin_of(mandate.id), "GET", path, headers={"Accept-Language": "en-GB"})
    assert "Invoice " + invoice["number"] in page_texts(english.content)[0]
    assert qr_codes(english.content) == [code]
    german = await api.call(admin_of(mandate.id), "GET", path, headers={"Accept-Language": "de-CH"})
    assert german.content == answer.content


async def test_the_pdf_has_the_structured_invoice_inside(api: BillingApi) -> None:
    mandate = await invoiced(api, "108.1")
    (invoice,) = (await get(api, admin_of(mandate.id)))["items"]
    answer = await api.call(admin_of(mandate.id), "GET", f"{PATH}/{invoice['id']}/pdf")
    name, xml = get_xml_from_pdf(answer.content, check_xsd=True)
    assert name == "factur-x.xml"
    root = etree.fromstring(xml)

    def said(element: str) -> list[str]:
        return [each.text or "" for each in root.iter(f"{{*}}{element}")]

    assert said("GrandTotalAmount") == ["108.10"]
    assert said("DuePayableAmount") == ["108.10"]
    assert said("TaxBasisTotalAmount") == ["100.00"]
    assert said("CalculatedAmount") == ["8.10"]
    assert said("IBANID") == ["CH9300762011623852957"]
    assert invoice["number"] in said("ID")


async def test_a_charge_is_explained_with_the_line_that_asks_for_it(api: BillingApi, books: Books) -> None:
    mandate = await Postpaid(api.database, JULY).begin()
    first = await mandate.use("10", model="other")
    second = await mandate.use("4")
    mandate.now = AUGUST + timedelta(hours=2)

    async def line(seq: int) -> Any:
        (row,) = [row for row in await books.rows(mandate.id) if row["seq"] == seq]
        named = transaction_id(row["posted_account_no"], seq)
        answer = await api.call(admin_of(mandate.id), "GET", f"/api/billing/transactions/{named}/explain")
        return answer.json()["invoiceLine"]

    assert await line(1) is None
    await mandate.close(2026, 7)
    (invoice,) = await mandate.invoices()
    assert await line(1) == {
        "invoiceId": invoice["id"],
        "number": invoice["number"],
        "position": 2,
        "kind": "USAGE",
        "cost": "10.000000",
        "amount": "10.000000",
    }
    assert (await line(2))["position"] == 1
    await mandate.reverse(first)
    assert await line(3) is None
    await mandate.use("30")
    mandate.later(days=31)
    await mandate.close(2026, 8)
    assert (await line(3))["kind"] == "CORRECTION"
    assert (await line(4))["position"] == 1
    assert second is not None


async def test_the_line_of_an_invoice_is_told_to_those_who_see_the_invoice(api: BillingApi, books: Books) -> None:
    # It adds up what everybody has used.
    mandate = await Postpaid(api.database, JULY).begin()
    await mandate.use("10", user_id="user-1", feature_instance_id="i-1")
    await mandate.use("4", user_id="user-2", feature_instance_id="i-1")
    mandate.now = AUGUST + timedelta(hours=2)
    await mandate.close(2026, 7)
    (row,) = [row for row in await books.rows(mandate.id) if row["seq"] == 1]
    path = f"/api/billing/transactions/{transaction_id(row['posted_account_no'], 1)}/explain"
    instances = Caller(user_id="far", instances=frozenset({"i-1"}), instance_mandates=frozenset({mandate.id}))
    for caller, amount in (
        (admin_of(mandate.id), "14.000000"),
        (system_admin(), "14.000000"),
        (member_of(mandate.id, user_id="user-1"), None),
        (instances, None),
    ):
        answer = await api.call(caller, "GET", path)
        assert answer.status_code == 200, answer.text
        line = answer.json()["invoiceLine"]
        assert (line and line["amount"]) == amount, caller


async def test_what_no_invoice_asks_for_is_explained_with_no_line(api: BillingApi, books: Books) -> None:
    mandate = await Postpaid(api.database, JULY).begin(model="PREPAY_MANDATE")
    prepaid = await mandate.use("3")
    await mandate.deduct("5")
    await mandate.switch("CREDIT_POSTPAY")
    plan = Plan(key="TEAM", budget=money(10))
    given = subscription(mandate.id, uuid4(), 1, "ACTIVE", plan=plan, at=JULY, period_start=JULY, budget_due=True)
    await ApplySubscription(api.database, clock=mandate.clock)([given], [])
    # The budget covered more than was used, so the time in CREDIT_POSTPAY ends without an invoice.
    await mandate.use("2")
    await mandate.switch("PREPAY_MANDATE")
    assert await mandate.invoices() == []
    await mandate.switch("CREDIT_POSTPAY")
    await mandate.use("1")
    await mandate.reverse(prepaid)
    mandate.now = AUGUST + timedelta(hours=2)
    await mandate.close(2026, 7)
    (invoice,) = await mandate.invoices()
    assert [(each["kind"], each["cost"]["amount"]) for each in invoice["lines"] if each["kind"] == "USAGE"] == [
        ("USAGE", "1.000000")
    ]
    explained = []
    for row in await books.rows(mandate.id):
        if row["contra_account"] == "REVENUE":
            named = transaction_id(row["posted_account_no"], row["seq"])
            answer = await api.call(admin_of(mandate.id), "GET", f"/api/billing/transactions/{named}/explain")
            line = answer.json()["invoiceLine"]
            explained.append((row["amount"], line and line["position"]))
    assert explained == [(3_000_000, None), (2_000_000, None), (1_000_000, 1), (3_000_000, None)]
