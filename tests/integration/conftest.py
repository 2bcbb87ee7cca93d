"""Whatever the fake Stripe answers and sends in this folder is held against what Stripe says of its API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.stripe_described import StripeAnswers, held_to_stripe


@pytest.fixture(scope="session")
def stripe_answers() -> Iterator[StripeAnswers]:
    """What the fake Stripe has answered and sent to the tests of this folder."""
    with held_to_stripe() as answers:
        yield answers


@pytest.fixture(autouse=True)
def every_answer_is_one_of_stripes(stripe_answers: StripeAnswers) -> Iterator[None]:
    """Fails the test that got another one."""
    yield
    faults = "\n".join(stripe_answers.found())
    assert not faults, faults
