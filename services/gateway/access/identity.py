"""Bearer tokens to identities: the signature, the issuer, the audience, the age and the kind of a token are checked,
with the public keys of an identity provider or of the development issuer."""

import asyncio
import base64
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt import PyJWK, PyJWKSet
from jwt.exceptions import PyJWKSetError

from services.chassis.bodies import IDENTIFIER
from services.chassis.logging import get_logger
from services.chassis.problems import Unavailable
from services.gateway.access.errors import InvalidToken, TokenNeeded

__all__ = ["DevelopmentKey", "Identity", "IssuerClient", "KeySet", "RemoteKeySet", "TokenVerifier", "TrustedIssuer"]

LEEWAY_S = 60
# RFC 9068 and the plain kind; an id token that a provider marks as one is not for this API.
TOKEN_TYPES = frozenset(["at+jwt", "application/at+jwt", "jwt"])
TOKEN_LENGTH_MAX = 8 * 1024
# Tokens that a process remembers as verified, by their digests: about half a kB each.
VERIFIED_MAX = 10_000
SERVICE_ACCOUNT_PREFIX = "service:"
SYSTEM_ADMIN_CLAIM = "rappen_system_admin"
# An unknown key id asks the provider again, at most this often: anybody can invent key ids.
REFRESH_INTERVAL_S = 30.0
# Keys are fetched again when they are this old, and count until the other age while the provider is away.
KEYS_AGE_S_FRESH = 300.0
KEYS_AGE_S_MAX = 3600.0
# The time limit of one fetch, all its requests together, and of those who wait for it.
FETCH_TIMEOUT_S = 3.0

_log = get_logger(__name__)


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
    keys: "KeySet"


class _Verified(NamedTuple):
    """A token that was verified: whose it is, until when (seconds of the machine's time), and by which key."""

    identity: Identity
    expires: float
    keys: "KeySet"
    key_id: str | None
    key: PyJWK


class TokenVerifier:
    """Verifies bearer tokens of the trusted issuers.

    A token comes with many requests, and its signature costs more than all else of admission. So what was verified is
    remembered, and of a token that comes again only this is looked at: that it is the same in every byte, that it has
    not expired, and that its issuer still has the key that it was signed with.
    """

    def __init__(self, issuers: Sequence[TrustedIssuer]) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        # The oldest first.
        self._verified: dict[bytes, _Verified] = {}

    async def verify(self, authorization: str | None) -> Identity:
        """The identity in an `Authorization` header; raises `TokenNeeded` or `InvalidToken`."""
        if authorization is None:
            raise TokenNeeded
        scheme, _, given = authorization.partition(" ")
        token = given.strip()
        if scheme.lower() != "bearer" or not token:
            raise TokenNeeded
        if len(token) > TOKEN_LENGTH_MAX or not token.isascii():
            raise InvalidToken
        digest = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is not None and time.time() < known.expires and await known.keys.find(known.key_id) is known.key:
            return known.identity
        self._verified.pop(digest, None)
        try:
            verified = await self._verify(token)
        except jwt.PyJWTError as error:
            raise InvalidToken from error
        if len(self._verified) >= VERIFIED_MAX:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = verified
        return verified.identity

    async def _verify(self, token: str) -> _Verified:
        # Nothing of this is believed yet: it only says with which key to verify.
        unverified = jwt.decode_complete(token, options={"verify_signature": False})
        header, issuer = unverified["header"], self._issuer(unverified["payload"])
        if str(header.get("typ", "")).lower() not in TOKEN_TYPES or header.get("alg") not in issuer.algorithms:
            raise InvalidToken
        named = header.get("kid")
        key_id = named if isinstance(named, str) else None
        key = await issuer.keys.find(key_id)
        if key is None:
            raise InvalidToken
        claims = jwt.decode(
            token,
            key,
            algorithms=issuer.algorithms,
            audience=issuer.audience,
            issuer=issuer.issuer,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
        return _Verified(_identity(claims), int(claims["exp"]) + LEEWAY_S, issuer.keys, key_id, key)

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


class KeySet(Protocol):
    """Where an issuer's keys come from."""

    async def find(self, key_id: str | None) -> PyJWK | None:
        """The key of that id; None when the issuer has no such key."""
        ...


class DevelopmentKey:
    """The one key of a development stack."""

    def __init__(self, private_key_file: Path) -> None:
        key = load_pem_private_key(private_key_file.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError(f"{private_key_file} holds no EC P-256 key")
        numbers = key.public_key().public_numbers()
        x, y = (_base64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        # RFC 7638: the members in this order, without white space.
        thumbprint = hashlib.sha256(f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'.encode()).digest()
        self.public: dict[str, Any] = {
            "kty": "EC",
            "crv": "P-256",
            "x": x,
            "y": y,
            "alg": "ES256",
            "use": "sig",
            "kid": _base64url(thumbprint),
        }
        self._key = PyJWK(self.public)

    async def find(self, key_id: str | None) -> PyJWK | None:
        """The key, by its thumbprint."""
        return self._key if key_id == self.public["kid"] else None


class IssuerClient:
    """The HTTP client of the identity provider, as a resource: without redirects, deaf to proxy variables."""

    def __init__(self) -> None:
        self.client = httpx.AsyncClient(timeout=FETCH_TIMEOUT_S, follow_redirects=False, trust_env=False)

    async def start(self) -> None:
        """Nothing to do: connections are made when they are needed."""

    async def stop(self) -> None:
        """Closes every connection."""
        await self.client.aclose()


class RemoteKeySet:
    """An identity provider's keys, cached; `monotonic` gives the time in seconds by which they age.

    Tokens with a known key never wait: keys are fetched again in the background, one fetch at a time.
    """

    def __init__(
        self, client: httpx.AsyncClient, *, issuer: str, jwks_url: str | None, monotonic: Callable[[], float]
    ) -> None:
        self._client = client
        self._issuer = issuer.rstrip("/")
        self._jwks_url = jwks_url
        self._monotonic = monotonic
        self._keys: dict[str | None, PyJWK] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._reached = True
        self._refreshing: asyncio.Task[None] | None = None

    async def find(self, key_id: str | None) -> PyJWK | None:
        """The key of that id; raises `Unavailable` when the provider, which alone could say, cannot be reached."""
        known = key_id in self._keys and not self._expired()
        if not known or self._age_s() > KEYS_AGE_S_FRESH:
            refreshing = self._refresh()
            if refreshing is not None and not known:
                await asyncio.wait({refreshing}, timeout=FETCH_TIMEOUT_S)
        key = self._keys.get(key_id)
        if self._expired() or (key is None and not self._reached):
            raise Unavailable(headers={"Retry-After": "5"})
        return key

    def _age_s(self) -> float:
        return math.inf if self._fetched_at is None else self._monotonic() - self._fetched_at

    def _expired(self) -> bool:
        return self._age_s() > KEYS_AGE_S_MAX

    def _refresh(self) -> asyncio.Task[None] | None:
        """The fetch that runs, begun now where its time has come; None when it is too early for another."""
        if self._refreshing is not None and not self._refreshing.done():
            return self._refreshing
        if self._tried_at is not None and self._monotonic() - self._tried_at < self._pause_s():
            return None
        self._tried_at = self._monotonic()
        self._reached = False
        self._refreshing = asyncio.create_task(self._replace(), name="signing keys")
        return self._refreshing

    async def _replace(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                self._keys = await self._fetch()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, KeyError, TypeError, PyJWKSetError) as error:
            # Keys that are not too old go on counting while the provider is away.
            _log.warning("signing keys not refreshed", issuer=self._issuer, error=type(error).__name__)
        else:
            self._fetched_at, self._reached = self._monotonic(), True

    def _pause_s(self) -> float:
        """Seconds until the next fetch: shorter while there is no valid key, because then nobody can sign in."""
        return 1.0 if self._expired() else REFRESH_INTERVAL_S

    async def _fetch(self) -> dict[str | None, PyJWK]:
        if self._jwks_url is None:
            document = await self._get(f"{self._issuer}/.well-known/openid-configuration")
            if str(document["issuer"]).rstrip("/") != self._issuer:
                raise ValueError("the discovery document is another issuer's")
            url = str(document["jwks_uri"])
        else:
            url = self._jwks_url
        return {key.key_id: key for key in PyJWKSet.from_dict(await self._get(url)).keys}

    async def _get(self, url: str) -> dict[str, Any]:
        answer = await self._client.get(url)
        answer.raise_for_status()
        document = answer.json()
        if not isinstance(document, dict):
            raise TypeError("not an object")
        return document


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
