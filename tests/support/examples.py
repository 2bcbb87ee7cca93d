"""Properties that are tried with very many examples, each drawn from a number that a failure names."""

import os
import random
from collections.abc import Callable
from functools import wraps

__all__ = ["many"]

# `make fuzz` sets it: so many times the examples, and other ones at each run.
_FACTOR = int(os.environ.get("RAPPEN_FUZZ", "0"))

Property = Callable[[random.Random], None]


def many(examples: int) -> Callable[[Property], Callable[[], None]]:
    """Tries a property with so many examples, the same at each run of the suite. Hypothesis would take a hundred times
    as long to draw events as deep as these; a seed is all that it takes to try a failing one again."""

    def decorate(tried: Property) -> Callable[[], None]:
        @wraps(tried)
        def test() -> None:
            first = random.SystemRandom().randrange(2**63) if _FACTOR else 0
            for seed in range(first, first + examples * max(1, _FACTOR)):
                try:
                    tried(random.Random(seed))
                except BaseException as error:
                    error.add_note(f"the example of seed {seed}")
                    raise

        # So that pytest sees a test without arguments.
        del test.__wrapped__  # type: ignore[attr-defined]
        return test

    return decorate
