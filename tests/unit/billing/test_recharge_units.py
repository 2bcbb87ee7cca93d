"""How much a recharge is: the fewest amounts that lift the balance above its threshold, within what is allowed."""

from hypothesis import given
from hypothesis import strategies as st

from services.billing.recharges.domain import recharge_units

balances = st.integers(-(3 * 10**18), 3 * 10**18) | st.integers(-100, 100)
amounts = st.integers(1, 10**11) | st.integers(1, 20)


@given(balance=balances, threshold=balances, amount=amounts, units_max=st.integers(1, 10**9))
def test_one_charge_closes_the_gap_with_no_more_than_is_needed(
    balance: int, threshold: int, amount: int, units_max: int
) -> None:
    units = recharge_units(balance=balance, threshold=threshold, amount=amount, units_max=units_max)
    aim = max(threshold, 0)
    assert 1 <= units <= units_max
    assert balance + units * amount > aim or units == units_max
    assert units == 1 or balance + (units - 1) * amount <= aim


def test_nothing_is_charged_where_nothing_is_allowed() -> None:
    assert recharge_units(balance=-5, threshold=0, amount=10, units_max=0) == 0
