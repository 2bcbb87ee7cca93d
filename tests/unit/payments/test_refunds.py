"""What refunds and disputes take: by where each stands now, never more than was paid, whatever the order."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payments.refunds.domain import Movement, Refund, RefundState, movements
from services.payments.stripe.objects import MoneyBack

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
PAID = Decimal("100.00")
STATUSES = {
    "REFUND": ["pending", "requires_action", "succeeded", "failed", "canceled", "new"],
    "DISPUTE": ["needs_response", "under_review", "lost", "won", "warning_closed", "new"],
}


TAKES = {"REFUND": "succeeded", "DISPUTE": "lost"}
SIGN = {RefundState.TAKEN: 1, RefundState.GIVEN_BACK: -1, RefundState.NOT_TAKEN: 0}


def is_taken(refund: Refund) -> bool:
    return refund.state is RefundState.TAKEN


def waits(one: MoneyBack) -> bool:
    return one.status not in ("succeeded", "failed", "canceled", "lost", "won")


def back(number: int, kind: str, status: str, amount: str = "30.00") -> MoneyBack:
    return MoneyBack(
        id=f"{kind}_{number}",
        kind=kind,
        status=status,
        amount=Decimal(amount),
        currency="CHF",
        intent_id="pi_1",
        created_at=AT + timedelta(seconds=number),
    )


def told(known: dict[str, Refund], moved: list[Movement]) -> dict[str, Refund]:
    """What is known after they were told of."""
    new = {
        each.back.id: Refund(each.back.id, each.back.kind, each.total, each.state, each.taken_count) for each in moved
    }
    return {**known, **new}


@pytest.mark.parametrize(
    ("kind", "status", "state"),
    [
        ("REFUND", "succeeded", RefundState.TAKEN),
        ("REFUND", "pending", None),
        ("REFUND", "requires_action", None),
        ("REFUND", "failed", RefundState.NOT_TAKEN),
        ("REFUND", "new", None),
        ("DISPUTE", "needs_response", None),
        ("DISPUTE", "lost", RefundState.TAKEN),
        ("DISPUTE", "won", RefundState.NOT_TAKEN),
        ("DISPUTE", "warning_closed", None),
    ],
)
def test_what_each_status_does(kind: str, status: str, state: RefundState | None) -> None:
    moved = list(movements(PAID, {}, [back(1, kind, status)]))
    assert [each.state for each in moved] == ([] if state is None else [state])
    known = told({}, moved)
    assert list(movements(PAID, known, [back(1, kind, status)])) == []


def test_a_bank_that_takes_more_than_was_paid_takes_what_was_paid() -> None:
    (moved,) = movements(PAID, {}, [back(1, "DISPUTE", "lost", "103.50")])
    assert (moved.amount, moved.outcome) == (PAID, "dispute_lost")


def test_a_dispute_after_refunds_takes_what_is_left() -> None:
    known = told({}, list(movements(PAID, {}, [back(1, "REFUND", "succeeded", "80.00")])))
    backs = [back(1, "REFUND", "succeeded", "80.00"), back(2, "DISPUTE", "lost", "100.00")]
    assert [each.amount for each in movements(PAID, known, backs)] == [Decimal("20.00")]


def test_what_failed_or_was_won_after_all_is_given_back_once() -> None:
    for kind, takes, after in (("REFUND", "succeeded", "failed"), ("DISPUTE", "lost", "won")):
        known = told({}, list(movements(PAID, {}, [back(1, kind, takes)])))
        moved = list(movements(PAID, known, [back(1, kind, after)]))
        assert [(each.state, each.amount) for each in moved] == [(RefundState.GIVEN_BACK, Decimal("30.00"))]
        assert list(movements(PAID, told(known, moved), [back(1, kind, after)])) == []


def test_what_is_won_and_lost_again_takes_again_and_is_given_back_again() -> None:
    known: dict[str, Refund] = {}
    events = []
    for status in ("won", "lost", "won", "lost", "lost", "under_review", "won"):
        moved = list(movements(PAID, known, [back(1, "DISPUTE", status)]))
        known = told(known, moved)
        events += [(each.told_id, each.state.value, each.amount) for each in moved]
    thirty = Decimal("30.00")
    assert events == [
        ("DISPUTE_1", "NOT_TAKEN", thirty),
        ("DISPUTE_1", "TAKEN", thirty),
        ("DISPUTE_1", "GIVEN_BACK", thirty),
        ("DISPUTE_1/2", "TAKEN", thirty),
        ("DISPUTE_1/2", "GIVEN_BACK", thirty),
    ]


def test_what_found_too_little_takes_the_rest_when_there_is_room() -> None:
    both = [back(1, "REFUND", "succeeded", "80.00"), back(2, "DISPUTE", "lost", "100.00")]
    known = told({}, list(movements(PAID, {}, both)))
    failed = [back(1, "REFUND", "failed", "80.00"), both[1]]
    moved = list(movements(PAID, known, failed))
    assert [(each.told_id, each.state.value, each.amount) for each in moved] == [
        ("REFUND_1", "GIVEN_BACK", Decimal("80.00")),
        ("DISPUTE_2/2", "TAKEN", Decimal("80.00")),
    ]
    assert told(known, moved)["DISPUTE_2"].amount == PAID


def test_what_the_system_before_has_taken_is_known_as_taken() -> None:
    taken = replace(back(1, "REFUND", "succeeded", "80.00"), taken_before=True)
    assert list(movements(PAID, {}, [taken])) == []
    (rest,) = movements(PAID, {}, [taken, back(2, "DISPUTE", "lost", "100.00")])
    assert (rest.told_id, rest.amount) == ("DISPUTE_2", Decimal("20.00"))
    failed = replace(taken, status="failed")
    moved = list(movements(PAID, {}, [failed]))
    assert [(each.told_id, each.state.value, each.amount) for each in moved] == [
        ("REFUND_1", "GIVEN_BACK", Decimal("80.00"))
    ]
    # What is known here stands, whatever was before.
    assert list(movements(PAID, told({}, moved), [failed])) == []


@st.composite
def lives(draw: st.DrawFn) -> list[list[MoneyBack]]:
    """What is seen of some refunds and disputes, again and again, each time as they stand then."""
    count = draw(st.integers(1, 4))
    kinds = [draw(st.sampled_from(sorted(STATUSES))) for _ in range(count)]
    amounts = [str(Decimal(draw(st.integers(1, 12_000))).scaleb(-2)) for _ in range(count)]
    seen = []
    for _ in range(draw(st.integers(1, 5))):
        there = draw(st.integers(1, count))
        seen.append(
            [
                back(
                    number,
                    kinds[number],
                    draw(st.sampled_from(STATUSES[kinds[number]])),
                    str(Decimal(amounts[number]).scaleb(-2)),
                )
                for number in range(there)
            ]
        )
    return seen


@given(lives())
def test_whatever_is_seen_no_more_is_taken_than_was_paid_and_nothing_twice(seen: list[list[MoneyBack]]) -> None:
    known: dict[str, Refund] = {}
    events: list[tuple[str, RefundState]] = []
    balance = PAID
    for backs in seen:
        moved = list(movements(PAID, known, backs))
        events += [(each.told_id, each.state) for each in moved if each.amount > 0]
        balance -= sum(SIGN[each.state] * each.amount for each in moved)
        known = told(known, moved)
        taken = sum((each.amount for each in known.values() if each.state is RefundState.TAKEN), Decimal(0))
        assert Decimal(0) <= taken <= PAID
        assert balance == PAID - taken
        assert list(movements(PAID, known, backs)) == []
        # Whatever was seen before: what takes now has its money, as far as it was paid.
        wanted = sum((each.amount for each in backs if TAKES[each.kind] == each.status), Decimal(0))
        stays = sum(
            (known[id_].amount for id_ in set(known) - {each.id for each in backs} if is_taken(known[id_])), Decimal(0)
        )
        under_way = sum(
            (known[each.id].amount for each in backs if waits(each) and each.id in known and is_taken(known[each.id])),
            Decimal(0),
        )
        assert taken == min(PAID, wanted + stays + under_way)
    # Others know each taking, and each giving back, by an identity of its own.
    assert len(set(events)) == len(events)
    assert len(events) == len(set(events))
