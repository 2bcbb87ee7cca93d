"""Who calls, and what they may see: evaluated once by the gateway, carried signed to one service for one request."""

import hmac
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime, timedelta
from typing import Annotated

import orjson
from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict

from services.chassis.problems import Problem
from services.chassis.validation import both

__all__ = [
    "CALLER_HEADER",
    "Caller",
    "CallerVerifier",
    "CurrentCaller",
    "Forbidden",
    "MandateUnknown",
    "ServiceAccountNeeded",
    "Unauthenticated",
    "require_person",
    "require_system_admin",
    "sign_caller",
]

CALLER_HEADER = "X-Rappen-Caller"
LIFETIME = timedelta(seconds=60)
LEEWAY_S = 5
# Contexts that a process remembers as verified; a few kB each at most.
VERIFIED_MAX = 1_000


class Forbidden(Problem):
    """The caller's role or scope does not cover this."""

    status = 403
    code = "FORBIDDEN"
    title = "Not allowed"
    texts = both("You are not allowed to do this.", "Sie dürfen das nicht.")


class PersonNeeded(Forbidden):
    """A service account asks for what only people may do."""

    texts = both(
        "This is for people; the token of a service account does not serve here.",
        "Das ist für Personen; das Token eines Dienstkontos genügt hier nicht.",
    )


class ServiceAccountNeeded(Forbidden):
    """A person asks for what only service accounts may do."""

    texts = both(
        "This is for service accounts; a person's token does not serve here.",
        "Das ist für Dienstkonten; das Token einer Person genügt hier nicht.",
    )


class InsufficientScope(Forbidden):
    """The token of a service account does not have the scope that this needs."""

    code = "INSUFFICIENT_SCOPE"
    texts = both(
        "This needs a service account's token with the scope {scope}.",
        "Das braucht das Token eines Dienstkontos mit dem Scope {scope}.",
    )


class MandateUnknown(Problem):
    """There is no such mandate; answered only to those who may know that."""

    status = 404
    code = "MANDATE_UNKNOWN"
    title = "Unknown mandate"
    texts = both("There is no such mandate.", "Diesen Mandanten gibt es nicht.")


class Unauthenticated(Problem):
    """There is no valid token."""

    status = 401
    code = "UNAUTHENTICATED"
    title = "Not authenticated"
    texts = both("A valid token is needed.", "Ein gültiges Token ist nötig.")


class Caller(BaseModel):
    """A person or a service account, with what they may see.

    `mandates` maps every mandate in which the person is an enabled member to whether they administer it;
    `instances` are the feature instances they administer, `instance_mandates` the mandates of those, of which they need
    not be a member. A service account (`service`) has `scopes` and no mandates.
    """

    model_config = ConfigDict(frozen=True)

    user_id: str
    service: bool = False
    system_admin: bool = False
    scopes: frozenset[str] = frozenset()
    mandates: dict[str, bool] = {}
    instances: frozenset[str] = frozenset()
    instance_mandates: frozenset[str] = frozenset()
    context_mandate: str | None = None
    language: str = "en"

    def require_person(self) -> None:
        """Refuses service accounts."""
        if self.service:
            raise PersonNeeded

    def require_member(self, mandate_id: str) -> None:
        """Refuses anyone who is neither an enabled member of the mandate nor a system administrator."""
        self.require_person()
        if not self.system_admin and mandate_id not in self.mandates:
            raise Forbidden

    def require_admin(self, mandate_id: str) -> None:
        """Refuses anyone who administers neither the mandate nor the platform."""
        self.require_person()
        if not self.system_admin and not self.mandates.get(mandate_id, False):
            raise Forbidden

    def require_system_admin(self) -> None:
        """Refuses everybody but system administrators."""
        self.require_person()
        if not self.system_admin:
            raise Forbidden

    def require_scope(self, scope: str) -> None:
        """Refuses people, and service accounts without that scope."""
        if not self.service or scope not in self.scopes:
            raise InsufficientScope(scope=scope)

    @property
    def administered(self) -> list[str]:
        """The mandates this person administers, in id order."""
        return sorted(mandate for mandate, admin in self.mandates.items() if admin)


def sign_caller(caller: Caller, *, audience: str, secret: str, now: datetime) -> str:
    """The signed context for one service, `payload.signature`; it is never forwarded outwards and lives a minute."""
    expires = int((now + LIFETIME).timestamp())
    payload = urlsafe_b64encode(
        orjson.dumps({"aud": audience, "exp": expires, "caller": caller.model_dump(mode="json")})
    )
    return f"{payload.decode()}.{_signature(payload, secret.encode()).decode()}"


def _signature(payload: bytes, secret: bytes) -> bytes:
    return urlsafe_b64encode(hmac.digest(secret, payload, "sha256"))


class CallerVerifier:
    """Reads the caller out of the signed context, or refuses with 401.

    Written out instead of a token library's call because it is a large part of what a balance check costs. The gateway
    signs a caller's context once a second at most, so what was verified is remembered, and only its age is looked at.
    """

    def __init__(self, *, audience: str, secret: str) -> None:
        self._audience = audience
        self._secret = secret.encode()
        self._verified: dict[str, tuple[Caller, float]] = {}

    def verify(self, context: str | None) -> Caller:
        """The caller whose signed context this is; 401 where it is missing, forged, another service's or too old."""
        if context is None:
            raise Unauthenticated
        known = self._verified.get(context)
        if known is None:
            known = self._read(context)
            if len(self._verified) >= VERIFIED_MAX:
                self._verified.clear()
            self._verified[context] = known
        caller, expires = known
        if expires < time.time() - LEEWAY_S:
            raise Unauthenticated
        return caller

    def _read(self, context: str) -> tuple[Caller, float]:
        payload, _, signature = context.encode("utf-8", "replace").partition(b".")
        if not hmac.compare_digest(signature, _signature(payload, self._secret)):
            raise Unauthenticated
        # What is signed was written by the gateway, so its form is certain from here on.
        claims = orjson.loads(urlsafe_b64decode(payload))
        if claims["aud"] != self._audience:
            raise Unauthenticated
        return Caller.model_validate(claims["caller"]), claims["exp"]


async def current_caller(request: Request) -> Caller:
    """FastAPI dependency: the caller of the request, verified by the application's `state.caller`."""
    verifier: CallerVerifier = request.app.state.caller
    return verifier.verify(request.headers.get(CALLER_HEADER))


CurrentCaller = Annotated[Caller, Depends(current_caller)]


async def require_person(caller: CurrentCaller) -> None:
    """FastAPI dependency of routes for people only: checked before anything else of the request is read."""
    caller.require_person()


async def require_system_admin(caller: CurrentCaller) -> None:
    """FastAPI dependency of the operator's routes: checked before anything else of the request is read."""
    caller.require_system_admin()
