"""For which period an invoice charges, as this and older versions of Stripe's API put it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.payments.stripe.invoices import invoice_of

DAY_S = 86_400
OLD, START, END = 0, 31 * DAY_S, 59 * DAY_S


def line(start: int = START, end: int = END, *, proration: bool = False) -> dict[str, Any]:
    details = {"subscription": "sub_1", "subscription_item": "si_1", "proration": proration}
    return {
        "period": {"start": start, "end": end},
        "parent": {"type": "subscription_item_details", "subscription_item_details": details},
    }


def old_line(*, proration: bool = False) -> dict[str, Any]:
    return {
        "type": "subscription",
        "subscription": "sub_1",
        "proration": proration,
        "period": {"start": START, "end": END},
    }


def period(*lines: dict[str, Any]) -> tuple[datetime | None, datetime | None]:
    # Its own period is the one before.
    found = invoice_of(
        {"id": "in_1", "currency": "chf", "period_start": OLD, "period_end": START, "lines": {"data": list(lines)}}
    )
    return found.period_start, found.period_end


@pytest.mark.parametrize(
    "lines",
    [
        [line(), line()],
        [line(), line(OLD + 5 * DAY_S, START, proration=True)],
        [old_line(), {"type": "invoiceitem", "period": {"start": OLD, "end": OLD}}],
    ],
)
def test_it_is_that_of_the_lines_and_not_the_invoices_own(lines: list[dict[str, Any]]) -> None:
    assert period(*lines) == (datetime.fromtimestamp(START, UTC), datetime.fromtimestamp(END, UTC))


@pytest.mark.parametrize(
    "lines", [[], [line(), line(START, END + DAY_S)], [line(proration=True)], [old_line(proration=True)]]
)
def test_none_is_guessed_where_the_lines_do_not_say_one(lines: list[dict[str, Any]]) -> None:
    assert period(*lines) == (None, None)
