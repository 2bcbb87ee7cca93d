"""Splitting an amount so that nothing is lost: equal parts, the remainder to the first."""

__all__ = ["share_equally"]


def share_equally(total: int, count: int) -> list[int]:
    """`count` whole parts of a whole amount (micro-CHF, also negative) that add up to it and differ by at most one."""
    if count < 1:
        raise ValueError("nobody to share with")
    part, rest = divmod(abs(total), count)
    sign = 1 if total >= 0 else -1
    return [sign * (part + (1 if number < rest else 0)) for number in range(count)]
