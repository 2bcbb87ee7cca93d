"""What a worker remembers of descriptions is bounded, however many there are."""

import tracemalloc
from collections.abc import Callable

import pytest

from services.billing.charging.description_cache import CHARACTERS_MAX, DescriptionCache
from services.billing.ledger.descriptions import Described

BYTES_MAX = 4 * CHARACTERS_MAX


@pytest.mark.parametrize(
    ("described", "least"),
    [
        (lambda number: Described(1, 1000 + number, None), 50_000),
        (lambda number: Described(1, 1000 + number, f"{number}é"), 50_000),
        (lambda number: Described(1, 1000 + number, chr(0x1F600) * 500 + str(number)), 8_000),
        (lambda number: Described(1, 1000 + number // 100, f"{number}"), 50_000),
    ],
    ids=["too many each", "one each", "long ones", "a hundred each"],
)
def test_a_worker_forgets_before_it_takes_too_much_memory(described: Callable[[int], Described], least: int) -> None:
    cache, remembered, most = DescriptionCache(), 0, 0
    tracemalloc.start()
    try:
        for number in range(0, 80_000, 1_000):
            before = cache.characters
            cache.remember(described(number + each) for each in range(1_000))
            most = max(most, tracemalloc.get_traced_memory()[0])
            if cache.characters < before:
                break
            remembered += 1_000
        else:
            raise AssertionError("nothing was forgotten")
    finally:
        tracemalloc.stop()
    assert remembered >= least
    assert most <= BYTES_MAX
