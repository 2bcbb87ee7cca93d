"""Bearer tokens to identities: the signature, the issuer, the audience, the age and the kind of a token are checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from services.chassis.bodies import IDENTIFIER
from services.gateway.access.errors import InvalidToken, TokenNeeded
from services.gateway.access.key_sets import KeySet

__all__ = ["Identity", "TokenVerifier", "TrustedIssuer"]

LEEWAY_S = 60
# RFC 9068 and the plain kind; an id token that a provider marks as one is not for this API.
TOKEN_TYPES = frozenset(["at+jwt", "application/at+jwt", "jwt"])
TOKEN_LENGTH_MAX = 8 * 1024
SERVICE_ACCOUNT_PREFIX = "service:"
SYSTEM_ADMIN_CLAIM = "rappen_system_admin"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a token says is calling. Mandates and roles are not in it: the directory alone knows them."""

    subject: str
    service_account: bool
    system_admin: bool
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """An issuer whose tokens are accepted, for which audience, signed how."""

    issuer: str
    audience: str
    algorithms: Sequence[str]
    keys: KeySet


class TokenVerifier:
    """Verifies bearer tokens of the trusted issuers."""

    def __init__(self, issuers: Sequence[TrustedIssuer]) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}

    async def verify(self, authorization: str | None) -> Identity:
        """The identity in an `Authorization` header; raises `TokenNeeded` or `InvalidToken`."""
        if authorization is None:
            raise TokenNeeded
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise TokenNeeded
        try:
            return _identity(await self._claims(token.strip()))
        except jwt.PyJWTError as error:
            raise InvalidToken from error

    async def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > TOKEN_LENGTH_MAX or not token.isascii():
            raise InvalidToken
        # Nothing of this is believed yet: it only says with which key to verify.
        unverified = jwt.decode_complete(token, options={"verify_signature": False})
        header, issuer = unverified["header"], self._issuer(unverified["payload"])
        if str(header.get("typ", "")).lower() not in TOKEN_TYPES or header.get("alg") not in issuer.algorithms:
            raise InvalidToken
        key_id = header.get("kid")
        key = await issuer.keys.find(key_id if isinstance(key_id, str) else None)
        if key is None:
            raise InvalidToken
        return jwt.decode(
            token,
            key,
            algorithms=issuer.algorithms,
            audience=issuer.audience,
            issuer=issuer.issuer,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )

    def _issuer(self, payload: dict[str, Any]) -> TrustedIssuer:
        name = payload.get("iss")
        found = self._issuers.get(name) if isinstance(name, str) else None
        if found is None:
            raise InvalidToken
        return found


def _identity(claims: dict[str, Any]) -> Identity:
    subject = claims["sub"]
    if not isinstance(subject, str) or not IDENTIFIER.fullmatch(subject):
        raise InvalidToken
    scope = claims.get("scope", "")
    service_account = subject.startswith(SERVICE_ACCOUNT_PREFIX)
    return Identity(
        subject=subject,
        service_account=service_account,
        # The claim is a right of people; any other value than true is none.
        system_admin=not service_account and claims.get(SYSTEM_ADMIN_CLAIM) is True,
        # People's tokens have scopes too (openid, profile), which say nothing here.
        scopes=frozenset(scope.split()) if service_account and isinstance(scope, str) else frozenset(),
    )
