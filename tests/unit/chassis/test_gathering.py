"""For how long a group lets records gather: as little as it can keep up with, within its limit."""

import pytest

from services.chassis.kafka import gathering_time


@pytest.mark.parametrize(
    ("settled_s", "gathers_s"), [(0.0, 0.02), (0.005, 0.02), (0.015, 0.03), (0.04, 0.08), (0.5, 0.08)]
)
def test_it_is_twice_what_the_last_batch_took_within_its_bounds(settled_s: float, gathers_s: float) -> None:
    assert gathering_time(0.08, settled_s) == pytest.approx(gathers_s)


def test_a_short_limit_holds_although_it_is_below_the_least() -> None:
    assert gathering_time(0.01, 0.0) == 0.01
