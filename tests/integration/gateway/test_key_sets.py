"""Tokens of an identity provider: its keys found, cached, exchanged and withdrawn, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from services.chassis.problems import Unavailable
from services.gateway.access import identity
from services.gateway.access.errors import InvalidToken
from services.gateway.access.identity import (
    FETCH_TIMEOUT_S,
    KEYS_AGE_S_FRESH,
    KEYS_AGE_S_MAX,
    REFRESH_INTERVAL_S,
    RemoteKeySet,
    TokenVerifier,
    TrustedIssuer,
)
from tests.integration.gateway.support import HANG_S, Peer
from tests.support.waiting import eventually


class Provider:
    """An identity provider on a server of its own."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.private: dict[str, Any] = {}
        self.now_s = 1000.0
        peer.answers["/.well-known/openid-configuration"] = (
            200,
            {"issuer": peer.url, "jwks_uri": f"{peer.url}/keys"},
        )

    def publish(self, **keys: Any) -> None:
        self.private |= keys
        public = []
        for key_id, key in keys.items():
            algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else OKPAlgorithm
            public.append({**json.loads(algorithm.to_jwk(key.public_key())), "kid": key_id})
        self.peer.answers["/keys"] = (200, {"keys": public})

    def token(self, key_id: str, algorithm: str, *, subject: str = "u", life_s: float = 60) -> str:
        claims = {"iss": self.peer.url, "aud": "rappen", "sub": subject, "exp": int(time.time() + life_s)}
        return jwt.encode(claims, self.private[key_id], algorithm=algorithm, headers={"kid": key_id})

    def verifier(self, client: httpx.AsyncClient) -> TokenVerifier:
        keys = RemoteKeySet(client, issuer=self.peer.url, jwks_url=None, monotonic=lambda: self.now_s)
        return TokenVerifier([TrustedIssuer(self.peer.url, "rappen", ("RS256", "EdDSA"), keys)])


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    peer = Peer("provider", "not used by a provider, but long enough")
    await peer.start()
    yield Provider(peer)
    await peer.stop()


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


async def test_keys_are_discovered_once_and_of_every_pinned_kind(provider: Provider, http: httpx.AsyncClient) -> None:
    provider.publish(one=rsa_key(), two=ed25519.Ed25519PrivateKey.generate())
    verifier = provider.verifier(http)
    for key_id, algorithm in (("one", "RS256"), ("two", "EdDSA"), ("one", "RS256")):
        assert (await verifier.verify(f"Bearer {provider.token(key_id, algorithm)}")).subject == "u"
    assert provider.peer.requests == 2
    with pytest.raises(InvalidToken):
        await verifier.verify(f"Bearer {provider.token('one', 'RS512')}")


async def test_an_unknown_key_id_asks_again_but_not_as_often_as_strangers_like(
    provider: Provider, http: httpx.AsyncClient
) -> None:
    provider.publish(old=rsa_key())
    verifier = provider.verifier(http)
    await verifier.verify(f"Bearer {provider.token('old', 'RS256')}")
    provider.publish(new=rsa_key())
    for _ in range(5):
        with pytest.raises(InvalidToken):
            await verifier.verify(f"Bearer {provider.token('new', 'RS256')}")
    assert provider.peer.requests == 2
    provider.now_s += REFRESH_INTERVAL_S
    assert (await verifier.verify(f"Bearer {provider.token('new', 'RS256')}")).subject == "u"
    # The provider has withdrawn it.
    with pytest.raises(InvalidToken):
        await verifier.verify(f"Bearer {provider.token('old', 'RS256')}")


async def test_while_the_provider_is_away_its_keys_count_until_they_are_too_old(
    provider: Provider, http: httpx.AsyncClient
) -> None:
    provider.publish(one=rsa_key())
    verifier = provider.verifier(http)
    token = f"Bearer {provider.token('one', 'RS256')}"
    await verifier.verify(token)
    provider.peer.answers["/keys"] = (500, {})
    provider.now_s += KEYS_AGE_S_MAX
    assert (await verifier.verify(token)).subject == "u"
    provider.now_s += 1
    with pytest.raises(Unavailable):
        await verifier.verify(token)
    provider.publish(one=provider.private["one"])
    provider.now_s += 2
    assert (await verifier.verify(token)).subject == "u"


@pytest.mark.parametrize(
    "discovered", [{}, {"issuer": "http://other"}, {"issuer": 7, "jwks_uri": 7}, {"issuer": None, "jwks_uri": ""}]
)
async def test_a_provider_that_makes_no_sense_is_as_good_as_away(
    provider: Provider, http: httpx.AsyncClient, discovered: dict[str, Any]
) -> None:
    provider.publish(one=rsa_key())
    provider.peer.answers["/.well-known/openid-configuration"] = (200, discovered)
    with pytest.raises(Unavailable):
        await provider.verifier(http).verify(f"Bearer {provider.token('one', 'RS256')}")


async def test_a_provider_that_hangs_holds_up_nobody_whose_key_is_known(
    provider: Provider, http: httpx.AsyncClient
) -> None:
    provider.publish(one=rsa_key())
    verifier = provider.verifier(http)
    token = f"Bearer {provider.token('one', 'RS256')}"
    await verifier.verify(token)
    asked = provider.peer.requests
    # It takes every connection and answers nobody.
    provider.peer.delay_s = HANG_S
    provider.now_s += KEYS_AGE_S_FRESH + 1
    started = time.monotonic()
    for _ in range(50):
        assert (await verifier.verify(token)).subject == "u"
    assert time.monotonic() - started < FETCH_TIMEOUT_S
    # An unknown key waits for the one fetch there is, and no longer than its time.
    provider.private["new"] = rsa_key()
    unknown = [verifier.verify(f"Bearer {provider.token('new', 'RS256')}") for _ in range(20)]
    answers = await asyncio.gather(*unknown, return_exceptions=True)
    assert {type(answer) for answer in answers} == {Unavailable}
    assert time.monotonic() - started < HANG_S / 2
    assert provider.peer.requests == asked + 1
    # While it is not asked again, an unknown key waits for nothing.
    started = time.monotonic()
    with pytest.raises(Unavailable):
        await verifier.verify(f"Bearer {provider.token('new', 'RS256')}")
    assert time.monotonic() - started < FETCH_TIMEOUT_S
    provider.peer.delay_s = 0.0
    provider.publish(one=provider.private["one"], new=provider.private["new"])
    provider.now_s += REFRESH_INTERVAL_S
    assert (await verifier.verify(f"Bearer {provider.token('new', 'RS256')}")).subject == "u"


async def test_a_token_that_comes_again_is_verified_once_and_not_believed_when_a_byte_of_it_differs(
    provider: Provider, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.publish(one=ed25519.Ed25519PrivateKey.generate())
    verifier = provider.verifier(http)
    verified: list[str] = []
    decode = jwt.decode

    def counted(token: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        verified.append(token)
        return decode(token, *arguments, **options)

    monkeypatch.setattr(jwt, "decode", counted)
    token, other = provider.token("one", "EdDSA"), provider.token("one", "EdDSA", subject="other")
    for _ in range(3):
        assert (await verifier.verify(f"Bearer {token}")).subject == "u"
        assert (await verifier.verify(f"Bearer {other}")).subject == "other"
    assert verified == [token, other]
    head, payload, signature = token.split(".")
    for forged in (
        f"{head}.{other.split('.')[1]}.{signature}",
        f"{head}.{payload}.{other.split('.')[2]}",
        f"{head}.{payload}.",
    ):
        for _ in range(2):
            with pytest.raises(InvalidToken):
                await verifier.verify(f"Bearer {forged}")


async def test_a_remembered_token_expires_like_any_other(
    provider: Provider, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.publish(one=ed25519.Ed25519PrivateKey.generate())
    verifier = provider.verifier(http)
    # It is over, and the leeway alone lets it be taken, and be remembered.
    monkeypatch.setattr(identity, "LEEWAY_S", 3600)
    token = f"Bearer {provider.token('one', 'EdDSA', life_s=-1800)}"
    assert (await verifier.verify(token)).subject == "u"
    monkeypatch.setattr(identity, "LEEWAY_S", 0)
    assert (await verifier.verify(token)).subject == "u"
    later = time.time() + 1801
    monkeypatch.setattr(identity, "time", SimpleNamespace(time=lambda: later))
    with pytest.raises(InvalidToken):
        await verifier.verify(token)


async def test_a_remembered_token_ends_with_its_key_also_where_another_key_has_the_same_id(
    provider: Provider, http: httpx.AsyncClient
) -> None:
    keys = [ed25519.Ed25519PrivateKey.generate() for _ in range(2)]
    provider.publish(one=keys[0])
    verifier = provider.verifier(http)
    token = f"Bearer {provider.token('one', 'EdDSA')}"
    assert (await verifier.verify(token)).subject == "u"
    provider.publish(one=keys[1])
    # Known keys are fetched again when they are this old, in the background.
    provider.now_s += KEYS_AGE_S_FRESH + 1

    async def refused() -> bool:
        try:
            await verifier.verify(token)
        except InvalidToken:
            return True
        return False

    await eventually(refused, what="the exchanged key")
    assert (await verifier.verify(f"Bearer {provider.token('one', 'EdDSA')}")).subject == "u"


async def test_so_many_tokens_are_remembered_and_the_oldest_are_verified_again(
    provider: Provider, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "VERIFIED_MAX", 3)
    provider.publish(one=ed25519.Ed25519PrivateKey.generate())
    verifier = provider.verifier(http)
    tokens = {f"u{number}": provider.token("one", "EdDSA", subject=f"u{number}") for number in range(5)}
    for _ in range(2):
        for subject, token in tokens.items():
            assert (await verifier.verify(f"Bearer {token}")).subject == subject
    assert len(verifier._verified) == 3
