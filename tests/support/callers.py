"""Callers, with contexts signed as the gateway signs them."""

from collections.abc import Mapping
from datetime import UTC, datetime

from services.chassis.caller import CALLER_HEADER, Caller, sign_caller

__all__ = ["admin_of", "checker", "headers", "member_of", "system_admin"]


def headers(caller: Caller, *, audience: str, secret: str) -> dict[str, str]:
    """The signed context, as a header."""
    return {CALLER_HEADER: sign_caller(caller, audience=audience, secret=secret, now=datetime.now(UTC))}


def system_admin(user_id: str = "root") -> Caller:
    """The operator."""
    return Caller(user_id=user_id, system_admin=True)


def member_of(*mandates: str, user_id: str = "user-1") -> Caller:
    """A plain member."""
    return Caller(user_id=user_id, mandates=dict.fromkeys(mandates, False))


def admin_of(*mandates: str, user_id: str = "admin-1") -> Caller:
    """A mandate administrator."""
    return Caller(user_id=user_id, mandates=dict.fromkeys(mandates, True))


def checker(scopes: Mapping[str, bool] | None = None) -> Caller:
    """An AI service that may check."""
    return Caller(user_id="service:tests", service=True, scopes=frozenset(scopes or {"usage:check": True}))
