"""How many attempts to pay an invoice of a subscription have failed."""

from __future__ import annotations

import pytest

from services.payments.stripe.invoices import invoice_of
from services.payments.subscriptions.domain import ATTEMPTS_MAX, failed_attempts


@pytest.mark.parametrize(
    ("status", "attempts", "needs_action", "failed"),
    [
        ("draft", 0, False, 0),
        ("draft", 2, False, 0),
        ("open", 0, False, 0),
        ("open", 1, False, 1),
        ("open", 3, False, 3),
        ("open", 0, True, 1),
        ("open", 2, True, 2),
        # The last attempt is the one that succeeded; what was paid without one has failed never.
        ("paid", 1, False, 0),
        ("paid", 3, False, 2),
        ("paid", 0, False, 0),
        ("uncollectible", 4, False, 4),
        ("void", 4, False, 4),
        ("open", 10**9, False, ATTEMPTS_MAX),
    ],
)
def test_attempts_that_failed(status: str, attempts: int, needs_action: bool, failed: int) -> None:
    invoice = invoice_of({"id": "in_1", "status": status, "attempt_count": attempts, "currency": "chf", "total": 100})
    assert failed_attempts(invoice, needs_action) == failed
