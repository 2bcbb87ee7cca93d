"""The state file of the fake Stripe: all that happened is in it, and what happens next costs no more for that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import stripe

from tests.integration.fakestripe_support import (
    FakeStripeProcess,
    Json,
    Receiver,
    client_of,
    customer_with,
    make_plan,
    open_session,
    plain,
    receiver,
)
from tests.support.waiting import eventually

# A fixture, which tests use by the name of their argument.
__all__ = ["receiver"]

MONTH_S = 31 * 24 * 3600
LISTS = (
    *("charges", "checkout/sessions", "customers", "disputes", "events", "invoiceitems", "invoice_payments"),
    *("invoices", "payment_intents", "prices", "products", "refunds", "setup_intents", "subscriptions?status=all"),
)


def everything(fake: FakeStripeProcess) -> dict[str, Any]:
    """What can be read of it."""
    found: dict[str, Any] = {}
    for path in LISTS:
        more = "&" if "?" in path else "?"
        answer = fake.http.get(f"/v1/{path}{more}limit=100")
        assert answer.status_code == 200, answer.text
        found[path] = answer.json()["data"]
    tables: Json = fake.http.get("/_control/state").json()["rows"]
    rows = {name: count for name, count in tables.items() if count}
    return {**found, "deliveries": fake.http.get("/_control/deliveries").json(), "rows": rows}


async def live(fake: FakeStripeProcess, client: stripe.StripeClient) -> None:
    """Lets about all kinds of things happen: made, changed, taken out again, by requests and by time."""
    topped_up = await open_session(client)
    intent = fake.pay(topped_up.id, "paid")["payment_intent"]
    await client.v1.refunds.create_async({"payment_intent": intent, "amount": 500})
    disputed = fake.pay((await open_session(client)).id, "paid")["payment_intent"]
    dispute = fake.control("disputes", {"payment_intent": disputed})
    fake.control(f"disputes/{dispute['id']}", {"outcome": "lost"})
    await open_session(client)

    customer = await customer_with(client)
    plan = await make_plan(client)
    order: Any = {"customer": customer.id, "items": plan.items()}
    subscription = await client.v1.subscriptions.create_async(order)
    [members, instances] = plain(subscription)["items"]["data"]
    change: Any = {"items": [{"id": instances["id"], "quantity": 4}], "proration_behavior": "always_invoice"}
    await client.v1.subscriptions.update_async(subscription.id, change)
    later: Any = {"items": [{"id": members["id"], "quantity": 7}], "proration_behavior": "create_prorations"}
    await client.v1.subscriptions.update_async(subscription.id, later)
    await client.v1.subscriptions.create_async({**order, "trial_period_days": 10})
    draft = await client.v1.invoices.create_async({"customer": customer.id})
    line: Any = {"customer": customer.id, "invoice": draft.id, "amount": 700, "currency": "chf"}
    await client.v1.invoice_items.create_async(line)
    await client.v1.invoices.delete_async(str(draft.id))
    # The session that is open expires, the trial ends, both subscriptions renew.
    fake.control("clock/advance", {"seconds": MONTH_S})
    fake.control("clock/advance", {"seconds": MONTH_S})
    await client.v1.subscriptions.cancel_async(subscription.id)
    await eventually(lambda: fake.http.get("/_control/state").json()["undelivered"] == 0, what="all delivered")


async def test_what_is_read_from_the_file_is_what_was_there(tmp_path: Path, receiver: Receiver) -> None:
    state = str(tmp_path / "state.json")
    fake = FakeStripeProcess(receiver.url, "--state-file", state)
    try:
        await live(fake, client_of(fake))
        before = everything(fake)
    finally:
        fake.stop()
    # Twice: what was read is written again, and read again.
    for _ in range(2):
        fake = FakeStripeProcess(receiver.url, "--state-file", state)
        try:
            after = everything(fake)
            assert after == before
        finally:
            fake.stop()


async def test_a_line_that_was_broken_by_a_kill_is_left_out_and_the_file_goes_on(
    tmp_path: Path, receiver: Receiver
) -> None:
    state = tmp_path / "state.json"
    made: list[str] = []
    for broken in (b"", b'{"clock_offset_s":0,"changes":{"customer":{"cus_', b'{"clock'):
        if broken:
            with state.open("ab") as file:
                file.write(broken)
        fake = FakeStripeProcess(receiver.url, "--state-file", str(state))
        try:
            client = client_of(fake)
            assert [(await client.v1.customers.retrieve_async(key)).id for key in made] == made
            made += [(await client.v1.customers.create_async({"name": "Kept"})).id for _ in range(3)]
        finally:
            fake.kill()


async def test_what_is_written_does_not_grow_with_all_that_there_is(tmp_path: Path, receiver: Receiver) -> None:
    state = tmp_path / "state.json"
    fake = FakeStripeProcess(receiver.url, "--state-file", str(state))
    try:
        client = client_of(fake)
        for _ in range(100):
            await client.v1.customers.create_async({"name": "One of many", "metadata": {"padding": "x" * 500}})
        written = psutil.Process(fake.pid).io_counters().write_chars
    finally:
        fake.stop()
    # Written anew for each of them, the file would have been written fifty times and more.
    assert written < 5 * state.stat().st_size


async def test_what_is_pressed_on_a_page_is_kept_however_slowly_its_form_arrives(
    tmp_path: Path, receiver: Receiver
) -> None:
    state = str(tmp_path / "state.json")
    fake = FakeStripeProcess(receiver.url, "--state-file", state)

    def press(page: str, action: str) -> httpx.Response:
        def form() -> Iterator[bytes]:
            yield f"action={action}&".encode()
            # Meanwhile something else happens, and is saved.
            assert fake.http.post("/v1/customers", data={"name": "Between"}).status_code == 200
            yield b"number=4242424242424242"

        headers = {"content-type": "application/x-www-form-urlencoded"}
        return fake.http.post(page, content=form(), headers=headers)

    try:
        client = client_of(fake)
        paid, confirmed = await open_session(client), await open_session(client)
        customer = await client.v1.customers.create_async({})
        draft = await client.v1.invoices.create_async({"customer": customer.id})
        line: Any = {"customer": customer.id, "invoice": draft.id, "amount": 700, "currency": "chf"}
        await client.v1.invoice_items.create_async(line)
        invoice = await client.v1.invoices.finalize_invoice_async(str(draft.id))
        asked = press(f"/pay/{confirmed.id}", "twint")
        assert press(asked.headers["location"], "confirm").status_code == 303
        assert "Paid, thank you." in press(str(invoice.hosted_invoice_url), "pay").text
        # The last, because nothing looks at its session afterwards.
        assert press(f"/pay/{paid.id}", "pay").status_code == 303
    finally:
        fake.kill()
    fake = FakeStripeProcess(receiver.url, "--state-file", state)
    try:
        sessions = (await client_of(fake).v1.checkout.sessions.list_async()).data
        assert [session.status for session in sessions] == ["complete", "complete"]
        assert (await client_of(fake).v1.invoices.retrieve_async(str(draft.id))).status == "paid"
    finally:
        fake.stop()
