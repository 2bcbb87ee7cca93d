"""What is known of Stripe is a sum: any order, repeats and delays of observations give the same."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from rappen_contracts.stripe.v1 import StripeCheckout, StripeObserved, StripeSubscription
from services.subscriptions.quantities.domain import Counts, KeptInStep, next_look
from services.subscriptions.stripe.domain import Facts, added

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
RECORD = UUID(int=1)
MINUTE = timedelta(minutes=1)


def observation(version: int, status: str | None, checkout: str | None) -> StripeObserved:
    subscription = None
    if status is not None:
        subscription = StripeSubscription.model_validate(
            {"stripe_subscription_id": f"sub_{version}", "status": status, "items": []}
        )
    return StripeObserved(
        mandate_id="m",
        subscription_id=RECORD,
        version=version,
        checkout=None if checkout is None else StripeCheckout.model_validate({"session_id": "cs", "state": checkout}),
        subscription=subscription,
        observed_at=NOW + version * MINUTE,
        cause="evt",
    )


def summed(observations: list[StripeObserved]) -> Facts:
    facts = Facts(subscription_id=RECORD, mandate_id="m")
    for observed in observations:
        facts = added(facts, observed)
    return facts


KINDS = st.tuples(
    st.sampled_from([None, "active", "past_due", "past_due", "unpaid", "canceled"]),
    st.sampled_from([None, "open", "completed", "closed"]),
)


@given(kinds=st.lists(KINDS, max_size=12), data=st.data())
def test_the_sum_does_not_depend_on_order_and_repeats(
    kinds: list[tuple[str | None, str | None]], data: st.DataObject
) -> None:
    told = [observation(version, *kind) for version, kind in enumerate(kinds, start=1)]
    order = data.draw(st.permutations(told))
    repeated = data.draw(st.lists(st.sampled_from(told), max_size=5)) if told else []
    facts = summed(told)
    assert summed([*order, *repeated]) == facts
    seen = [observed for observed in told if observed.subscription is not None]
    assert facts.subscription == (seen[-1].subscription if seen else None)
    # Past due since the first of the fetches that end with the newest, and none of which found it paid up.
    since = None
    for observed in seen:
        status = observed.subscription.status if observed.subscription else None
        since = (since or observed.observed_at) if status == "past_due" else None
    assert facts.past_due_since == since


def kept(charged: Counts | None, requested: Counts | None = None, tries: int = 0) -> KeptInStep:
    return KeptInStep(
        subscription_id=RECORD,
        mandate_id="m",
        version=1,
        requested=requested,
        requested_at=None if requested is None else NOW,
        tries=tries,
        charged=charged,
    )


def test_quantities_are_asked_for_at_once_where_they_differ_and_again_after_more_and_more_time() -> None:
    one, two = Counts(1, 0), Counts(2, 0)
    assert next_look(kept(one), one, NOW) is None
    assert next_look(kept(one), two, NOW) == NOW
    assert next_look(kept(None), two, NOW) == NOW
    # Another change does not wait for the answer to the one before.
    assert next_look(kept(one, requested=Counts(3, 0)), two, NOW) == NOW
    delays = [next_look(kept(one, two, tries), two, NOW) for tries in (0, 1, 2, 6, 50)]
    assert delays == [NOW + minutes * MINUTE for minutes in (1, 2, 4, 60, 60)]
    assert next_look(kept(one, two), two, NOW + 5 * MINUTE) == NOW + 5 * MINUTE
