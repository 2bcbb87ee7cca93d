"""A tour of the fake Stripe: every operation is carried out, and every object comes into every state that it can have.

What is answered on the way is looked at by whoever takes the tour; here things only happen.
"""

from __future__ import annotations

from tests.integration.fakestripe_asked import BACK, VISA, Tour

DAY_S = 24 * 3600


def take(tour: Tour) -> None:
    """Go everywhere."""
    for part in (catalogue, customers, payments, refunds, disputes, setups, checkouts, invoices, items, portal):
        part(tour)
    for part in (subscriptions, subscriptions_in_time, account):
        part(tour)


def catalogue(tour: Tour) -> None:
    """Products and prices."""
    made = tour.post(
        "products",
        name="Instances",
        shippable=True,
        url="https://shop.example",
        **{
            "default_price_data[currency]": "chf",
            "default_price_data[unit_amount_decimal]": "12.5",
            "images[0]": "https://shop.example/a.png",
            "marketing_features[0][name]": "Fast",
            "metadata[a]": "b",
        },
    )
    tour.post(f"products/{made['id']}", active=False, description="")
    tour.get(f"products/{made['id']}", **{"expand[0]": "default_price"})
    tour.get("products", active=True)
    tour.get("products/search", query="active:'true'")
    price = tour.new_price(nickname="Monthly", lookup_key="monthly", tax_behavior="exclusive")
    tour.post(f"prices/{price}", **{"metadata[a]": "b", "nickname": ""})
    tour.get(f"prices/{price}", **{"expand[0]": "product"})
    tour.get("prices", type="recurring")
    tour.get("prices/search", query="lookup_key:'monthly'", limit=1)


def customers(tour: Tour) -> None:
    """Customers and their payment methods."""
    made = tour.post(
        "customers",
        email="whole@example.com",
        payment_method=VISA,
        tax_exempt="reverse",
        **{
            "business_name": "Whole AG",
            "individual_name": "W. Hole",
            "address[country]": "CH",
            "address[line1]": "Bahnhofstrasse 1",
            "invoice_settings[footer]": "Thanks",
            "preferred_locales[0]": "de",
            "shipping[name]": "A",
            "shipping[address][line1]": "B",
            "metadata[a]": "b",
        },
    )
    key = made["id"]
    [method] = tour.get(f"customers/{key}/payment_methods")["data"]
    tour.get(f"customers/{key}/payment_methods/{method['id']}")
    tour.get(f"customers/{key}")
    tour.post(f"customers/{key}", phone="+41 44 000 00 00", balance=-500)
    tour.get("customers", email="whole@example.com")
    tour.get("customers/search", query="email:'whole@example.com'")
    tour.post(f"payment_methods/{method['id']}", allow_redisplay="always", **{"metadata[a]": "b"})
    tour.get(f"payment_methods/{method['id']}", **{"expand[0]": "customer"})
    tour.get("payment_methods", customer=key, type="card")
    tour.post(f"payment_methods/{method['id']}/detach")
    tour.post("payment_methods/pm_card_chargeDeclined/attach", 402, customer=key)
    tour.delete(f"customers/{key}")
    tour.get(f"customers/{key}")


def payments(tour: Tour) -> None:
    """Payment intents and charges."""
    customer = tour.customer()
    waiting = tour.post(
        "payment_intents", amount=900, currency="chf", customer=customer, **{"automatic_payment_methods[enabled]": True}
    )
    tour.post(f"payment_intents/{waiting['id']}", description="Top-up", receipt_email="a@example.com")
    tour.post(f"payment_intents/{waiting['id']}/cancel", cancellation_reason="abandoned")
    only_cards = {"allowed_payment_method_types[0]": "card"}
    chosen = tour.post("payment_intents", amount=900, currency="chf", payment_method=VISA, **only_cards)
    tour.post(f"payment_intents/{chosen['id']}/confirm", off_session=True)
    paid = tour.pay(customer=customer, setup_future_usage="off_session", **{"metadata[a]": "b"})
    tour.pay(status=402, payment_method="pm_card_chargeDeclinedInsufficientFunds", customer=customer)
    tour.pay(status=402, payment_method="pm_card_authenticationRequired", off_session=True)
    asked = tour.pay(payment_method="pm_card_authenticationRequired", return_url=BACK)
    page = asked["next_action"]["redirect_to_url"]["url"]
    tour.fake.http.post(page, data={"action": "refuse"})
    tour.post(f"payment_intents/{asked['id']}/confirm", payment_method="pm_card_authenticationRequired")
    tour.get(f"payment_intents/{paid['id']}", **{"expand[0]": "latest_charge", "expand[1]": "payment_method"})
    tour.get("payment_intents", customer=customer, **{"expand[0]": "data.customer"})
    tour.get("payment_intents/search", query=f"customer:'{customer}'")
    charge = paid["latest_charge"]
    tour.post(f"charges/{charge}", description="Paid", receipt_email="")
    tour.get(f"charges/{charge}", **{"expand[0]": "refunds", "expand[1]": "payment_intent"})
    tour.get("charges", customer=customer)
    tour.get("charges/search", query="status:'succeeded'")
    tour.post(f"payment_intents/{paid['id']}/confirm", 400)


def refunds(tour: Tour) -> None:
    """Refunds in every state."""
    paid = tour.pay()
    made = tour.post("refunds", payment_intent=paid["id"], amount=1000, reason="requested_by_customer")
    tour.post(f"refunds/{made['id']}", **{"metadata[a]": "b"})
    tour.get(f"refunds/{made['id']}", **{"expand[0]": "charge"})
    tour.get("refunds", charge=made["charge"])
    tour.fake.control(f"refunds/{made['id']}", {"status": "requires_action"})
    tour.get(f"refunds/{made['id']}")
    tour.post(f"refunds/{made['id']}/cancel")
    failing = tour.post("refunds", charge=made["charge"], reason="duplicate")
    tour.fake.control(f"refunds/{failing['id']}", {"status": "failed"})
    tour.get(f"refunds/{failing['id']}")
    slow = tour.pay(payment_method="pm_card_pendingRefund")
    tour.post("refunds", payment_intent=slow["id"], reason="fraudulent")


def disputes(tour: Tour) -> None:
    """Disputes in every state."""
    for outcome in ("won", "lost"):
        made = tour.fake.control("disputes", {"payment_intent": tour.pay()["id"]})
        tour.get(f"disputes/{made['id']}", **{"expand[0]": "charge"})
        tour.post(f"disputes/{made['id']}", submit=True, **{"evidence[customer_name]": "A", "metadata[a]": "b"})
        tour.fake.control(f"disputes/{made['id']}", {"outcome": outcome})
    given_up = tour.fake.control("disputes", {"payment_intent": tour.pay()["id"], "reason": "product_not_received"})
    tour.post(f"disputes/{given_up['id']}/close")
    inquiry = tour.fake.control("disputes", {"payment_intent": tour.pay()["id"], "inquiry": True})
    tour.get(f"disputes/{inquiry['id']}")
    tour.post(f"disputes/{inquiry['id']}", submit=True)
    tour.post(f"disputes/{inquiry['id']}/close")
    tour.get("disputes", limit=100)


def setups(tour: Tour) -> None:
    """Setup intents in every state."""
    customer = tour.customer()
    only_cards = {"allowed_payment_method_types[0]": "card"}
    waiting = tour.post("setup_intents", customer=customer, description="Card", **only_cards)
    tour.post(f"setup_intents/{waiting['id']}", description="Other", **{"metadata[a]": "b"})
    tour.post(f"setup_intents/{waiting['id']}/confirm", payment_method=VISA)
    chosen = tour.post("setup_intents", payment_method=VISA, usage="on_session")
    tour.post(f"setup_intents/{chosen['id']}/cancel", cancellation_reason="duplicate")
    tour.post("setup_intents", 402, confirm=True, payment_method="pm_card_chargeDeclined")
    asked = tour.post(
        "setup_intents", confirm=True, payment_method="pm_card_authenticationRequiredOnSetup", return_url=BACK
    )
    tour.get(f"setup_intents/{asked['id']}", **{"expand[0]": "payment_method"})
    tour.fake.http.post(asked["next_action"]["redirect_to_url"]["url"], data={"action": "refuse"})
    tour.get(f"setup_intents/{asked['id']}")
    tour.get("setup_intents", customer=customer)
    tour.post(f"setup_intents/{chosen['id']}/confirm", 400)


def checkouts(tour: Tour) -> None:
    """Checkouts of each mode, with each outcome."""
    subscription = {
        "mode": "subscription",
        "line_items[0][price]": tour.price,
        "line_items[1][quantity]": 1,
        "line_items[1][price_data][currency]": "chf",
        "line_items[1][price_data][unit_amount]": 700,
        "line_items[1][price_data][product]": tour.product,
    }
    whole = {"success_url": BACK, "line_items[0][quantity]": 1}
    for outcome in ("paid", "declined", "unpaid", "async_paid", "async_failed"):
        saved = {"payment_intent_data[setup_future_usage]": "off_session", "customer": tour.customer()}
        tour.fake.pay(tour.checkout(**saved, client_reference_id="a", locale="de")["id"], outcome)
        tour.fake.pay(tour.post("checkout/sessions", **whole, **subscription)["id"], outcome)
    by_twint = tour.checkout(**{"payment_intent_data[setup_future_usage]": "off_session", "customer": tour.customer()})
    tour.fake.pay_by_twint(by_twint["id"], "declined")
    intent = tour.fake.pay_by_twint(by_twint["id"], "paid")["payment_intent"]
    twint = tour.get(f"payment_intents/{intent}", **{"expand[0]": "latest_charge"})["latest_charge"]
    mandate = twint["payment_method_details"]["twint"]["mandate"]
    tour.get(f"mandates/{mandate}", **{"expand[0]": "payment_method"})
    tour.post("refunds", charge=twint["id"])
    tour.fake.control(f"mandates/{mandate}", {"status": "inactive"})
    trial = {"subscription_data[trial_period_days]": 5, "payment_method_collection": "if_required"}
    tour.fake.pay(tour.post("checkout/sessions", **whole, **subscription, **trial)["id"], "paid")
    for pay in (tour.fake.pay, tour.fake.pay_by_twint):
        setup = tour.post("checkout/sessions", mode="setup", currency="chf", success_url=BACK, customer=tour.customer())
        pay(setup["id"], "paid")
    shown = {"custom_text[submit][message]": "Now", "allowed_payment_method_types[0]": "card"}
    tour.checkout(
        allow_promotion_codes=True,
        billing_address_collection="required",
        customer_creation="always",
        integration_identifier="shop",
        origin_context="web",
        submit_type="pay",
        **{
            "consent_collection[terms_of_service]": "required",
            "custom_fields[0][key]": "order",
            "custom_fields[0][label][custom]": "Order number",
            "custom_fields[0][label][type]": "custom",
            "custom_fields[0][type]": "text",
            "phone_number_collection[enabled]": True,
            "shipping_address_collection[allowed_countries][0]": "CH",
        },
    )
    expired = tour.checkout(customer_email="b@example.com", cancel_url=BACK, **shown)
    tour.post(f"checkout/sessions/{expired['id']}/expire")
    tour.get(f"checkout/sessions/{expired['id']}", **{"expand[0]": "line_items"})
    tour.get(f"checkout/sessions/{expired['id']}/line_items")
    expanded = [
        "customer",
        "invoice",
        "line_items",
        "payment_intent.latest_charge",
        "setup_intent.mandate",
        "subscription",
    ]
    tour.get("checkout/sessions", limit=100, **{f"expand[{i}]": f"data.{each}" for i, each in enumerate(expanded)})


def invoices(tour: Tour) -> None:
    """Invoices in every state, and what paid them."""
    customer = tour.customer()
    mailed = {"customer": customer, "collection_method": "send_invoice", "days_until_due": 10}

    def draft(**more: object) -> str:
        key = str(tour.post("invoices", **{**mailed, **more})["id"])
        tour.post("invoiceitems", customer=customer, invoice=key, amount=1200, currency="chf", description="Work")
        return key

    sent, voided, written_off, bank = draft(description="May"), draft(number="N-1"), draft(), draft()
    tour.post(f"invoices/{sent}", footer="Thanks", **{"custom_fields[0][name]": "PO", "custom_fields[0][value]": "7"})
    tour.get(f"invoices/{sent}/lines")
    tour.post(f"invoices/{sent}/send")
    tour.post(f"invoices/{sent}/pay", payment_method=VISA)
    tour.post(f"invoices/{voided}/finalize", auto_advance=False)
    tour.post(f"invoices/{voided}/void")
    tour.post(f"invoices/{written_off}/finalize")
    tour.post(f"invoices/{written_off}/mark_uncollectible")
    tour.post(f"invoices/{bank}/pay", paid_out_of_band=True)
    failing = str(tour.post("invoices", customer=tour.customer("pm_card_chargeCustomerFail"))["id"])
    owner = tour.get(f"invoices/{failing}", **{"expand[0]": "customer"})["customer"]["id"]
    tour.post("invoiceitems", customer=owner, invoice=failing, amount=900)
    tour.post(f"invoices/{failing}/pay", 402)
    tour.delete(f"invoices/{draft()}")
    paths = ["payments.data.payment.payment_intent", "confirmation_secret", "customer"]
    tour.get("invoices", limit=100, **{f"expand[{i}]": f"data.{each}" for i, each in enumerate(paths)})
    tour.get("invoices/search", query=f"customer:'{customer}'")
    [payment] = tour.get("invoice_payments", invoice=sent)["data"]
    tour.get(f"invoice_payments/{payment['id']}", **{"expand[0]": "invoice"})
    tour.get("invoice_payments", limit=100)


def items(tour: Tour) -> None:
    """Invoice items, of each way to say an amount."""
    customer = tour.customer()
    once = tour.post("prices", product=tour.product, currency="chf", unit_amount=300)["id"]
    made = tour.post(
        "invoiceitems", customer=customer, quantity=2, **{"pricing[price]": once, "period[start]": 1, "period[end]": 2}
    )
    tour.post("invoiceitems", customer=customer, unit_amount_decimal="10.4", quantity=3)
    tour.post(f"invoiceitems/{made['id']}", amount=700, discountable=False, **{"metadata[a]": "b"})
    tour.get(f"invoiceitems/{made['id']}")
    tour.get("invoiceitems", customer=customer, pending=True)
    tour.post("invoices", customer=customer, pending_invoice_items_behavior="include")
    tour.delete(f"invoiceitems/{tour.post('invoiceitems', customer=customer, amount=100)['id']}")


def portal(tour: Tour) -> None:
    """Sessions of the portal, with each flow."""
    customer = tour.customer()
    tour.post("billing_portal/sessions", customer=customer, return_url=BACK, locale="de")
    tour.post("billing_portal/sessions", customer=customer, **{"flow_data[type]": "payment_method_update"})
    ending = {
        "flow_data[type]": "subscription_cancel",
        "flow_data[subscription_cancel][subscription]": tour.subscribe(customer)["id"],
        "flow_data[after_completion][type]": "redirect",
        "flow_data[after_completion][redirect][return_url]": BACK,
    }
    tour.post("billing_portal/sessions", customer=customer, **ending)


def subscriptions(tour: Tour) -> None:
    """Subscriptions as requests change them."""
    customer = tour.customer()
    made = tour.subscribe(customer, description="Plan", **{"metadata[a]": "b", "billing_mode[type]": "classic"})
    key, item = made["id"], made["items"]["data"][0]["id"]
    tour.get(f"subscriptions/{key}", **{"expand[0]": "latest_invoice.payments", "expand[1]": "customer"})
    tour.post(f"subscription_items/{item}", quantity=4, proration_behavior="always_invoice")
    added = tour.post("subscription_items", subscription=key, price=tour.new_price(unit_amount=300), quantity=1)
    tour.get(f"subscription_items/{added['id']}")
    tour.get("subscription_items", subscription=key)
    tour.delete(f"subscription_items/{added['id']}")
    tour.post(f"subscriptions/{key}", **{"pause_collection[behavior]": "void", "cancel_at_period_end": True})
    tour.post(f"subscriptions/{key}", **{"pause_collection": "", "cancellation_details[feedback]": "too_expensive"})
    method = tour.get(f"customers/{customer}/payment_methods")["data"][0]["id"]
    tour.fake.control(f"payment_methods/{method}", {"card": "pm_card_chargeCustomerFail"})
    change = {"quantity": 9, "proration_behavior": "always_invoice"}
    tour.post(f"subscription_items/{item}", **change, payment_behavior="pending_if_incomplete")
    tour.post(f"subscription_items/{item}", 402, **change, payment_behavior="error_if_incomplete")
    tour.get("subscriptions", customer=customer, **{"expand[0]": "data.default_payment_method"})
    tour.get("subscriptions/search", query=f"customer:'{customer}'")
    tour.delete(f"subscriptions/{key}")
    tour.subscribe(tour.customer(), payment_behavior="default_incomplete")
    tour.subscribe(tour.customer("pm_card_authenticationRequired"))
    tour.subscribe(tour.customer(None), collection_method="send_invoice", days_until_due=10)


def subscriptions_in_time(tour: Tour) -> None:
    """What becomes of subscriptions by themselves."""
    trial = {"trial_period_days": 2, "trial_settings[end_behavior][missing_payment_method]": "pause"}
    paused = tour.subscribe(tour.customer(None), **trial)
    abandoned = tour.subscribe(tour.customer("pm_card_chargeCustomerFail"))
    for outcome in ("unpaid", "cancel"):
        tour.fake.control("dunning", {"retry_days": [2], "then": outcome})
        failing = tour.subscribe(tour.customer("pm_card_failsAtRenewal"))
        tour.forward(33 * DAY_S)
        tour.get(f"subscriptions/{failing['id']}", **{"expand[0]": "latest_invoice"})
        tour.forward(3 * DAY_S)
        tour.get(f"subscriptions/{failing['id']}", **{"expand[0]": "latest_invoice"})
    tour.get(f"subscriptions/{abandoned['id']}")
    tour.get(f"subscriptions/{paused['id']}")
    method = tour.post(f"payment_methods/{VISA}/attach", customer=paused["customer"])["id"]
    tour.post(f"subscriptions/{paused['id']}", default_payment_method=method)
    tour.post(f"subscriptions/{paused['id']}/resume")
    tour.get("subscriptions", status="all", limit=100, **{"expand[0]": "data.latest_invoice"})
    tour.fake.control("dunning", {})


def account(tour: Tour) -> None:
    """What belongs to the account, and the events of all that has happened."""
    endpoint = tour.post(
        "webhook_endpoints", url="http://127.0.0.1:9/x", **{"enabled_events[0]": "mandate.updated", "description": "A"}
    )
    tour.get(f"webhook_endpoints/{endpoint['id']}")
    tour.get("webhook_endpoints")
    tour.get("balance")
    page = tour.get("events", limit=100)
    tour.get(f"events/{page['data'][0]['id']}")
    while page["has_more"]:
        page = tour.get("events", limit=100, starting_after=page["data"][-1]["id"])
