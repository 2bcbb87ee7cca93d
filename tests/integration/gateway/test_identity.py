"""Who is let in: tokens that hold and tokens that do not, at the running gateway."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration.gateway.support import Peer, assert_problem, unique
from tests.support.gateway import GatewayProcess, Issuer
from tests.support.processes import run_command
from tests.support.stack import ServerPair

PATH = "/api/billing/balance"


async def ask(client: httpx.AsyncClient, token: str | None) -> httpx.Response:
    return await client.get(PATH, headers={} if token is None else {"Authorization": f"Bearer {token}"})


async def test_a_valid_token_reaches_the_service_as_its_subject(client: httpx.AsyncClient, issuer: Issuer) -> None:
    user = unique("user")
    answer = await ask(client, issuer.token({"sub": user}))
    assert answer.status_code == 200
    assert answer.json()["caller"]["user_id"] == user


async def test_without_a_token_the_answer_is_401_and_names_the_scheme(client: httpx.AsyncClient) -> None:
    for headers in ({}, {"Authorization": "Basic dXNlcjpwYXNz"}, {"Authorization": "Bearer"}):
        answer = await client.get(PATH, headers=headers)
        assert_problem(answer, 401, "UNAUTHENTICATED")
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": int(time.time()) - 3600},
        {"exp": None},
        {"nbf": int(time.time()) + 3600},
        {"iss": "http://somebody.else"},
        {"iss": None},
        {"aud": "another-api"},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "with space"},
        {"sub": "x" * 65},
    ],
)
async def test_a_token_with_wrong_claims_is_refused(
    client: httpx.AsyncClient, issuer: Issuer, claims: dict[str, Any]
) -> None:
    answer = await ask(client, issuer.token({"sub": "somebody", **claims}))
    assert_problem(answer, 401, "INVALID_TOKEN")
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_a_token_that_expired_within_the_leeway_still_counts(client: httpx.AsyncClient, issuer: Issuer) -> None:
    answer = await ask(client, issuer.token({"sub": "somebody", "exp": int(time.time()) - 30}))
    assert answer.status_code == 200


async def test_a_token_of_another_key_is_refused_whatever_key_id_it_names(
    client: httpx.AsyncClient, issuer: Issuer
) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    assert_problem(await ask(client, issuer.token({"sub": "somebody"}, key=stranger)), 401, "INVALID_TOKEN")
    assert_problem(await ask(client, issuer.token({"sub": "somebody"}, key=stranger, kid="other")), 401)
    assert_problem(await ask(client, issuer.token({"sub": "somebody"}, kid="other")), 401, "INVALID_TOKEN")
    assert_problem(await ask(client, issuer.token({"sub": "somebody"}, kid=None)), 401, "INVALID_TOKEN")


async def test_an_unsigned_token_is_refused(client: httpx.AsyncClient, issuer: Issuer) -> None:
    token = issuer.token({"sub": "somebody"})
    header, payload, signature = token.split(".")
    none = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).decode().rstrip("=")
    for forged in (f"{none}.{payload}.", f"{none}.{payload}.{signature}", f"{header}.{payload}."):
        assert_problem(await ask(client, forged), 401, "INVALID_TOKEN")


async def test_the_public_key_is_no_shared_secret(client: httpx.AsyncClient, issuer: Issuer) -> None:
    public = issuer.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    # By hand, because no library signs like this any more.
    header = {"alg": "HS256", "typ": "at+jwt", "kid": issuer.key_id}
    encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    signed = f"{encoded}.{issuer.token({'sub': 'somebody'}).split('.')[1]}"
    signature = hmac.digest(public, signed.encode(), "sha256")
    forged = f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"
    assert_problem(await ask(client, forged), 401, "INVALID_TOKEN")


@pytest.mark.parametrize("typ", ["dpop+jwt", "id+jwt", "", None])
async def test_another_type_of_token_is_refused(client: httpx.AsyncClient, issuer: Issuer, typ: str | None) -> None:
    if typ is None:
        # The library always writes a type, so one without is made by hand, with a signature that cannot hold either.
        header = base64.urlsafe_b64encode(json.dumps({"alg": "ES256", "kid": issuer.key_id}).encode()).decode()
        token = ".".join([header.rstrip("="), *issuer.token({"sub": "somebody"}).split(".")[1:]])
    else:
        token = issuer.token({"sub": "somebody"}, typ=typ)
    assert_problem(await ask(client, token), 401, "INVALID_TOKEN")


@pytest.mark.parametrize("token", ["x", "a.b.c", "....", "\u00e9\u00e9", "e30.e30.e30", "x" * 9000])
async def test_what_is_no_token_is_refused(client: httpx.AsyncClient, token: str) -> None:
    answer = await client.get(PATH, headers=[(b"Authorization", f"Bearer {token}".encode("latin-1"))])
    assert_problem(answer, 401, "INVALID_TOKEN")


@pytest.mark.parametrize("claim", ["true", 1, "yes", False, None, [True]])
async def test_only_the_claim_true_makes_a_system_administrator(
    client: httpx.AsyncClient, issuer: Issuer, claim: object
) -> None:
    answer = await ask(client, issuer.token({"sub": "somebody", "rappen_system_admin": claim}))
    assert answer.json()["caller"]["system_admin"] is False


async def test_a_program_is_never_a_system_administrator_and_a_person_has_no_scopes(
    client: httpx.AsyncClient, issuer: Issuer
) -> None:
    program = {"sub": "service:ai", "scope": "usage:check", "rappen_system_admin": True}
    answer = await client.get("/api/billing/providers", headers={"Authorization": f"Bearer {issuer.token(program)}"})
    assert answer.json()["caller"] == {
        "user_id": "service:ai",
        "service": True,
        "system_admin": False,
        "scopes": ["usage:check"],
        "mandates": {},
        "instances": [],
        "instance_mandates": [],
        "context_mandate": None,
        "language": "en",
    }
    person = await ask(client, issuer.token({"sub": "somebody", "scope": "usage:write openid"}))
    assert person.json()["caller"]["scopes"] == []


async def test_a_program_cannot_use_what_is_for_people_nor_a_scope_it_lacks(
    client: httpx.AsyncClient, issuer: Issuer, peers: dict[str, Peer]
) -> None:
    before = peers["billing"].requests
    for_people = assert_problem(await client.get(PATH, headers=issuer.service_account("usage:write usage:check")), 403)
    assert for_people["detail"] == "This is for people; the token of a service account does not serve here."
    refused = await client.post("/api/billing/check", json={}, headers=issuer.service_account("usage:write"))
    scope = assert_problem(refused, 403, "INSUFFICIENT_SCOPE")
    assert scope["detail"] == "This needs a service account's token with the scope usage:check."
    for_services = await client.post("/api/billing/check", json={}, headers=issuer.person("somebody"))
    assert assert_problem(for_services, 403, "FORBIDDEN")["detail"].startswith("This is for service accounts;")
    assert_problem(await client.get("/api/billing/admin/prices", headers=issuer.person("somebody")), 403)
    assert peers["billing"].requests == before


async def test_the_development_key_is_published_without_its_private_half(
    client: httpx.AsyncClient, issuer: Issuer
) -> None:
    keys = (await client.get("/.well-known/jwks.json")).json()["keys"]
    assert [key["kid"] for key in keys] == [issuer.key_id]
    assert set(keys[0]) == {"kty", "crv", "x", "y", "alg", "use", "kid"}
    verified = jwt.decode(issuer.token({"sub": "s"}), jwt.PyJWK(keys[0]), algorithms=["ES256"], audience="rappen")
    assert verified["sub"] == "s"


def test_production_refuses_the_development_issuer(gateway: GatewayProcess, servers: ServerPair) -> None:
    more = {**gateway.settings, "GATEWAY_ENVIRONMENT": "production"}
    refused = run_command(servers, "gateway", "all", more=more, anew=True)
    assert refused.returncode == 2
    assert "dev_issuer is for development" in refused.stderr
