"""The signed caller context: who can make one, for whom, and for how long."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from services.chassis.caller import VERIFIED_MAX, Caller, CallerVerifier, Unauthenticated, sign_caller

SECRET = "s" * 32
CALLER = Caller(user_id="alice", mandates={"m-1": True, "m-2": False}, instances=frozenset({"i-1"}))
verify = CallerVerifier(audience="billing", secret=SECRET).verify


def signed(*, audience: str = "billing", secret: str = SECRET, age_s: float = 0) -> str:
    return sign_caller(CALLER, audience=audience, secret=secret, now=datetime.now(UTC) - timedelta(seconds=age_s))


def test_a_context_carries_the_whole_caller() -> None:
    assert verify(signed()) == CALLER
    assert verify(signed(age_s=55)) == CALLER


@pytest.mark.parametrize(
    "context",
    [
        None,
        "",
        ".",
        "a.b",
        "é.ü",
        signed(audience="payments"),
        signed(secret="t" * 32),
        signed(age_s=70),
        signed()[:-2],
        signed() + "A",
        "x" + signed(),
        signed().replace(".", ""),
        signed(audience="payments").split(".")[0] + "." + signed().split(".")[1],
    ],
)
def test_anything_else_is_nobody(context: str | None) -> None:
    with pytest.raises(Unauthenticated):
        verify(context)


async def test_a_context_that_was_verified_is_refused_once_it_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    context, remembering = signed(), CallerVerifier(audience="billing", secret=SECRET)
    assert remembering.verify(context) == CALLER
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 64)
    assert remembering.verify(context) == CALLER
    monkeypatch.setattr(time, "time", lambda: now + 66)
    with pytest.raises(Unauthenticated):
        remembering.verify(context)


async def test_only_so_many_contexts_are_remembered() -> None:
    remembering = CallerVerifier(audience="billing", secret=SECRET)
    for age_s in range(VERIFIED_MAX + 10):
        remembering.verify(signed(age_s=-age_s))
    assert len(remembering._verified) <= VERIFIED_MAX
