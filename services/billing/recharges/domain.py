"""How much a recharge is. Pure."""

__all__ = ["FAILURES_MAX", "recharge_units"]

# The recharge that is declined as the last of so many in a row turns them off.
FAILURES_MAX = 3


def recharge_units(*, balance: int, threshold: int, amount: int, units_max: int) -> int:
    """How many times the recharge amount is charged at once: as often as brings the balance above its threshold, and
    above nothing, at least once, at most `units_max` times. All amounts in micro-CHF.

    One charge closes the gap, because a card that is charged again and again within minutes is soon declined.
    """
    needed = (max(threshold, 0) - balance) // amount + 1
    return min(max(needed, 1), units_max)
