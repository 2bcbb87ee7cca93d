"""A fake Stripe of its own, asked by plain HTTP with as few words as a tour through it needs."""

from __future__ import annotations

import itertools

from tests.integration.fakestripe_support import FakeStripeProcess, Json

BACK = "https://shop.example/back"
VISA = "pm_card_visa"


class Tour:
    """A fake Stripe of its own, whose clock moves, asked by plain HTTP."""

    def __init__(self, webhook_url: str) -> None:
        self.fake = FakeStripeProcess(webhook_url)
        self._numbers = itertools.count(1)
        self.product = self.post("products", name="Members", description="Seats", unit_label="seat")["id"]
        self.price = self.new_price()

    def post(self, path: str, status: int = 200, **form: object) -> Json:
        """Send a form, whose nested members are in brackets."""
        return self._ask("POST", path, status, data=form)

    def get(self, path: str, **query: object) -> Json:
        """Fetch something, or a list of it."""
        return self._ask("GET", path, 200, params=query)

    def delete(self, path: str) -> Json:
        """Delete something."""
        return self._ask("DELETE", path, 200)

    def _ask(self, method: str, path: str, status: int, **sent: Json) -> Json:
        plain = {
            kind: {name: str(value).lower() if isinstance(value, bool) else value for name, value in form.items()}
            for kind, form in sent.items()
        }
        answer = self.fake.http.request(method, f"/v1/{path}", **plain)  # type: ignore[arg-type]
        assert answer.status_code == status, f"{method} {path}: {answer.text}"
        result: Json = answer.json()
        return result

    def forward(self, seconds: int) -> None:
        """Move the clock."""
        self.fake.control("clock/advance", {"seconds": seconds})

    def new_price(self, **more: object) -> str:
        """Make a monthly price of the product."""
        form = {"product": self.product, "currency": "chf", "unit_amount": 1000, "recurring[interval]": "month"}
        return str(self.post("prices", **{**form, **more})["id"])

    def customer(self, card: str | None = VISA) -> str:
        """Make a customer who pays with a test card."""
        key = self.post("customers", email=f"tour{next(self._numbers)}@example.com", name="Tour")["id"]
        if card is not None:
            method = self.post(f"payment_methods/{card}/attach", customer=key)["id"]
            self.post(f"customers/{key}", **{"invoice_settings[default_payment_method]": method})
        return str(key)

    def subscribe(self, customer: str, status: int = 200, **more: object) -> Json:
        """Make a subscription to two members."""
        form = {"customer": customer, "items[0][price]": self.price, "items[0][quantity]": 2}
        return self.post("subscriptions", status, **{**form, **more})

    def pay(self, amount: int = 5000, status: int = 200, **more: object) -> Json:
        """Make a payment that a card is charged for at once."""
        form = {"amount": amount, "currency": "chf", "confirm": True, "payment_method": VISA}
        return self.post("payment_intents", status, **{**form, **more})

    def checkout(self, **more: object) -> Json:
        """Open a checkout over CHF 25."""
        form = {
            "mode": "payment",
            "success_url": BACK,
            "line_items[0][quantity]": 1,
            "line_items[0][price_data][currency]": "chf",
            "line_items[0][price_data][unit_amount]": 2500,
            "line_items[0][price_data][product_data][name]": "Credit",
        }
        return self.post("checkout/sessions", **{**form, **more})
