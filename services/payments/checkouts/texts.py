"""The few words that payers and statements see, in the language of the admin who started the checkout."""

from collections.abc import Mapping

__all__ = ["PAYMENT", "TOP_UP", "text"]

# What the credit is called in the ledger and at Stripe.
PAYMENT: Mapping[str, str] = {"en": "Stripe payment", "de": "Stripe-Zahlung"}
# What is bought, on Stripe's page.
TOP_UP: Mapping[str, str] = {"en": "Credit top-up", "de": "Guthaben-Aufladung"}


def text(texts: Mapping[str, str], language: str) -> str:
    """The text in that language, else in English."""
    return texts.get(language, texts["en"])
