"""In which order a balance is spent, against a model that keeps each grant and the paid credit apart."""

from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from services.billing.ledger.domain import LockedAccount, LockedGrant, Posting, TransactionType
from services.billing.ledger.spending import apply_changes, expiry, grant_changes, grants_text, read_grants_text

START = datetime(2026, 1, 1, tzinfo=UTC)
AMOUNTS = st.integers(1, 40)

steps = st.lists(
    st.tuples(st.just("spend"), AMOUNTS)
    | st.tuples(st.just("pay"), AMOUNTS)
    | st.tuples(st.just("refund"), AMOUNTS)
    | st.tuples(st.just("grant"), st.tuples(AMOUNTS, st.none() | st.integers(1, 9)))
    | st.tuples(st.just("expire"), st.integers(1, 9)),
    max_size=25,
)


class Model:
    """Paid credit, which may be negative, and grants by number, each as [expiry, remainder]."""

    def __init__(self) -> None:
        self.paid = 0
        self.grants: dict[int, list[Any]] = {}

    def _order(self) -> list[int]:
        return sorted(self.grants, key=lambda no: (self.grants[no][0] or 10**9, no))

    def spend(self, amount: int) -> None:
        """Takes it from grants in their order, and then from paid credit."""
        for no in self._order():
            part = min(amount, self.grants[no][1])
            self.grants[no][1] -= part
            amount -= part
        self.paid -= amount

    def cover(self) -> None:
        """A debt is paid from grants."""
        if self.paid < 0:
            debt, self.paid = -self.paid, 0
            self.spend(debt)

    @property
    def balance(self) -> int:
        """All of it."""
        return self.paid + sum(rest for _, rest in self.grants.values())


def _posting(kind: TransactionType, amount: int, contra: Any, grants: Any = ()) -> Posting:
    return Posting(1, bytes(16), 3, 3, kind, amount, contra, "SYSTEM", 0, None, grants=grants)


def _post(account: LockedAccount, posting: Posting, by: int) -> None:
    changes = grant_changes(account, posting, by, START)
    assert read_grants_text((grants_text(changes) or b"").decode()) == [(grant.no, by) for grant, by in changes]
    apply_changes(account, changes)
    account.move(by)


@given(steps)
def test_each_grant_and_the_paid_credit_are_what_the_rules_say(given_steps: list[tuple[str, Any]]) -> None:
    account, model = LockedAccount(1, 3, "MANDATE", None, 0, 0, 0, 0), Model()
    for number, (name, value) in enumerate(given_steps, start=1):
        if name == "spend":
            _post(account, _posting("DEBIT", value, "REVENUE"), -value)
            model.spend(value)
        elif name == "pay":
            _post(account, _posting("CREDIT", value, "PAYMENT_PROVIDER"), value)
            model.paid += value
        elif name == "refund":
            _post(account, _posting("ADJUSTMENT", -value, "PAYMENT_PROVIDER"), -value)
            model.paid -= value
        elif name == "grant":
            amount, day = value
            expires_at = None if day is None else START + timedelta(days=day)
            made = LockedGrant(1, number, 3, "BUDGET", amount, 0, expires_at, "ADMIN", "SYSTEM", None, "")
            account.grants.append(made)
            account.grants.sort(key=lambda grant: (grant.expires_at or datetime.max.replace(tzinfo=UTC), grant.no))
            _post(account, _posting("CREDIT", amount, "ADMIN", [(number, amount)]), amount)
            model.grants[number] = [day, amount]
        else:
            now = START + timedelta(days=value)
            for grant in account.grants:
                if grant.is_due(now):
                    posting = expiry(account, grant, now)
                    _post(account, posting, posting.amount or 0)
            for entry in model.grants.values():
                if entry[0] is not None and entry[0] <= value:
                    entry[1] = 0
        model.cover()
        assert account.balance == model.balance
        assert {grant.no: grant.remaining for grant in account.grants} == {
            no: rest for no, (_, rest) in model.grants.items()
        }
        assert account.granted == sum(grant.remaining for grant in account.grants) <= max(account.balance, 0)
