"""How long pricing takes, to be run by hand: `python -m tests.unit.billing.test_prices_speed`.

No test fails by the clock; the one here makes sure that what is measured is a real charge.
"""

from __future__ import annotations

import timeit
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from services.billing.money import Exact, Markup, converted, exact, post, with_markup
from services.billing.pricing import Metered, PriceBook, Priced, Rate, RateTable, read_rappen_file

DEMO_FILE = Path(__file__).parents[3] / "deploy" / "simulator" / "prices.json"
AT = datetime(2026, 5, 5, 13, 0, tzinfo=UTC)
TOKENS = {"input": 1234, "cache_read": 456, "output": 321, "reasoning": 12}
MODELS = {
    "plain": Metered("openai", "gpt-4o", TOKENS, {}),
    "by prompt length": Metered("google", "gemini-2.5-pro", TOKENS, {}),
    "by clock": Metered("deepseek", "deepseek-v4-pro", TOKENS, {}),
    "by length and region": Metered("openai", "gpt-5.4", TOKENS, {}, "standard", {"region": "eu"}),
}


class Till:
    """Everything that is computed for one usage event, from its tokens to the new remainder."""

    def __init__(self) -> None:
        self.book = PriceBook(read_rappen_file(DEMO_FILE.read_bytes(), AT).versions)
        self.rates = RateTable([Rate("USD", datetime(2026, 1, 1, tzinfo=UTC), Decimal("0.8912"))])
        self.remainder: Exact = 0

    def charge(self, usage: Metered) -> int:
        """The micro-CHF to post for the usage, with 50 % markup."""
        found = self.book.price(usage, AT)
        if not isinstance(found, Priced):
            raise TypeError(found.reason)
        rate = self.rates.at(found.currency, AT)
        if rate is None:
            raise LookupError(found.currency)
        price = with_markup(converted(found.cost, rate.rate), Markup.of(Decimal(50)))
        amount, self.remainder = post(exact(price), self.remainder)
        return amount


@pytest.mark.parametrize(
    ("name", "micros"),
    # 0.006985, 0.0049295, 0.001483812 and 0.0090134 USD x 0.8912 x 1.5, rounded once.
    [("plain", 9338), ("by prompt length", 6590), ("by clock", 1984), ("by length and region", 12_049)],
)
def test_what_is_measured_is_a_real_charge(name: str, micros: int) -> None:
    assert Till().charge(MODELS[name]) == micros


def main(calls: int = 100_000) -> None:
    """Prints the microseconds of pricing, and of a whole charge, for one event of four token kinds."""
    till = Till()
    for name, usage in MODELS.items():
        price = timeit.timeit(lambda usage=usage: till.book.price(usage, AT), number=calls)  # type: ignore[misc]
        charge = timeit.timeit(lambda usage=usage: till.charge(usage), number=calls)  # type: ignore[misc]
        print(f"{name}: price {price / calls * 1e6:.2f} us, whole charge {charge / calls * 1e6:.2f} us")


if __name__ == "__main__":
    main()
