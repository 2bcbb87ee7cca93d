"""What of the ledger a caller may see, by role and by what they ask for."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from services.billing.reports.scope import Scope
from services.chassis.caller import Caller, Forbidden

NOBODY = Caller(user_id="nobody")
MEMBER = Caller(user_id="mia", mandates={"a": False, "b": False})
ADMIN = Caller(user_id="ada", mandates={"a": True, "b": False})
INSTANCE_ADMIN = Caller(user_id="ina", instances=frozenset({"i"}), instance_mandates=frozenset({"c"}))
SYSTEM_ADMIN = Caller(user_id="sys", system_admin=True, mandates={"a": False})


@pytest.mark.parametrize(
    ("caller", "asked", "seen"),
    [
        (NOBODY, {}, ()),
        (MEMBER, {}, ("a", "b")),
        (MEMBER, {"mandate_id": "b"}, ("b",)),
        (ADMIN, {"name": "mandate"}, ("a", "b")),
        (ADMIN, {"name": "mandate", "mandate_id": "a"}, ("a",)),
        (ADMIN, {"only_mine": True}, ("a", "b")),
        (INSTANCE_ADMIN, {}, ("c",)),
        (INSTANCE_ADMIN, {"mandate_id": "c"}, ("c",)),
        (INSTANCE_ADMIN, {"name": "personal"}, ()),
        (INSTANCE_ADMIN, {"name": "personal", "mandate_id": "c"}, ()),
        (SYSTEM_ADMIN, {}, None),
        (SYSTEM_ADMIN, {"mandate_id": "z"}, ("z",)),
        (SYSTEM_ADMIN, {"name": "personal"}, ("a",)),
        (SYSTEM_ADMIN, {"name": "mandate", "only_mine": True}, ("a",)),
    ],
)
def test_the_mandates_of_which_anything_can_be_seen(
    caller: Caller, asked: dict[str, Any], seen: tuple[str, ...] | None
) -> None:
    assert Scope.of(caller, **asked).mandates == seen


@pytest.mark.parametrize("asked", [{}, {"name": "personal"}, {"name": "mandate"}, {"only_mine": True}])
@pytest.mark.parametrize("caller", [NOBODY, MEMBER, ADMIN, INSTANCE_ADMIN])
def test_a_mandate_outside_the_scope_is_forbidden_whatever_is_asked(caller: Caller, asked: dict[str, Any]) -> None:
    with pytest.raises(Forbidden):
        Scope.of(caller, **asked, mandate_id="z")
    with pytest.raises(Forbidden):
        Scope.of(caller.model_copy(update={"context_mandate": "z"}), **asked)


def test_a_service_account_sees_nothing() -> None:
    with pytest.raises(Forbidden):
        Scope.of(Caller(user_id="program", service=True))


def test_what_an_administrator_of_instances_sees_is_no_balance() -> None:
    asked: dict[str, Any] = {"mandate_id": sa.column("m", sa.Text), "user_id": sa.column("u", sa.Text)}
    row = Scope.of(INSTANCE_ADMIN).shows_row(**asked, instance_id=sa.column("i", sa.Text))
    balance = Scope.of(INSTANCE_ADMIN).shows_balance(**asked)
    assert "i = ANY" in str(row.compile(dialect=postgresql.dialect()))
    assert "i = ANY" not in str(balance.compile(dialect=postgresql.dialect()))
    assert Scope.of(INSTANCE_ADMIN).of_member().mandates == ()
