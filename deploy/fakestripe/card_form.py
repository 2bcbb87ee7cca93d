"""What is typed into the card form of the hosted page, checked as Stripe's own form checks it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from deploy.fakestripe.objects.payment_methods import TestCard, card_by_number

_EXPIRY = re.compile(r"(\d{1,2})\s*[/-]?\s*(\d{2}|\d{4})", re.ASCII)
_CENTURY = 2000
# What stands in the form before anything is typed, beside the expiry date; a program may leave these two out.
CVC = "123"
_GOOD_FOR_YEARS = 8


class CardRefusedError(Exception):
    """The form cannot be sent as it is; the text is for the person who fills it in."""


def expiry_at(now_s: int) -> str:
    """Give the expiry date that stands in the form: one to come, however far the clock was moved."""
    return f"12/{datetime.fromtimestamp(now_s, UTC).year + _GOOD_FOR_YEARS}"


def read_card(form: Mapping[str, str], now_s: int) -> TestCard:
    """Give the test card that was typed in; raises CardRefusedError."""
    card = card_by_number(re.sub(r"[\s-]", "", form.get("number", "")))
    if card is None:
        raise CardRefusedError("This is not a test card number.")
    _check_expiry(form.get("expiry", expiry_at(now_s)).strip(), datetime.fromtimestamp(now_s, UTC))
    length = 4 if card.brand == "amex" else 3
    cvc = form.get("cvc", CVC.ljust(length, "4")).strip()
    if not (cvc.isascii() and cvc.isdigit() and len(cvc) == length):
        raise CardRefusedError(f"Your card's security code is incomplete: it has {length} digits.")
    return card


def _check_expiry(text: str, now: datetime) -> None:
    found = _EXPIRY.fullmatch(text)
    if found is None:
        raise CardRefusedError("Your card's expiration date is incomplete: MM / YY.")
    month, year = int(found[1]), int(found[2])
    if not 1 <= month <= 12:
        raise CardRefusedError("Your card's expiration month is invalid.")
    year += _CENTURY if year < 100 else 0
    # A card is good to the end of its month.
    if (year, month) < (now.year, now.month):
        raise CardRefusedError("Your card has expired.")
