"""Makes the demo tenants through the public surface: `python -m deploy.simulator.seed`.

It needs a running stack (`RAPPEN_HOME`, else the checkout it is called in), or the addresses of one that runs
elsewhere, as in `compose.yaml`. Doing it again changes nothing: what is there stays as it is, also what somebody has
changed since.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from deploy.local.control import running_stack
from deploy.local.errors import StackError
from deploy.local.home import find_home
from deploy.local.identity import describe_issuer
from deploy.simulator.pay_page import open_pay_page
from deploy.simulator.platform import Platform, PlatformError, operator
from deploy.simulator.tenants import OPERATOR, TENANTS, TOP_UP, Tenant

__all__ = ["is_seeded", "make_tenants", "seed"]

_PRICES = Path(__file__).parent / "prices.json"
# Valid from the same day on as the prices; round values of that year.
_RATES = {"USD": "0.79", "EUR": "0.93"}
_RATES_FROM = "2026-01-01T00:00:00Z"

_AS = operator(OPERATOR)
_PATIENCE_S = 60.0
_KNOWN_TIMEOUT_S = 45.0
_POLL_S = 0.2


async def seed(stack: Mapping[str, Any]) -> None:
    """Make everything that is missing."""
    async with httpx.AsyncClient(trust_env=False) as client:
        platform = Platform(client, stack)
        await _add_prices(platform)
        await make_tenants(platform, TENANTS)
        page = await open_pay_page(platform, client, stack, TOP_UP, patience_s=_PATIENCE_S)
        print(f"{', '.join(tenant.label for tenant in TENANTS)} are ready; {TOP_UP.tenant.label} pays at {page.url}")


async def is_seeded(platform: Platform) -> bool:
    """Say whether the demo tenants are there."""
    for tenant in TENANTS:
        try:
            await platform.call("GET", f"/api/directory/mandates/{tenant.id}", _AS, patience_s=_PATIENCE_S)
        except PlatformError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
            return False
    return True


async def make_tenants(platform: Platform, tenants: Sequence[Tenant]) -> None:
    """Enter tenants into the directory, and give them their billing model, credit and plan."""
    await _import_directory(platform, tenants)
    for tenant in tenants:
        await _open_tenant(platform, tenant)


async def _import_directory(platform: Platform, tenants: Sequence[Tenant]) -> None:
    lines = [json.dumps(entry) for tenant in tenants for entry in _entries(tenant)]
    content = "\n".join(lines).encode()
    await platform.call(
        "POST",
        "/api/directory/import",
        _AS,
        content=content,
        content_type="application/x-ndjson",
        patience_s=_PATIENCE_S,
    )


def _entries(tenant: Tenant) -> Iterator[dict[str, Any]]:
    yield {"kind": "mandate", "id": tenant.id, "name": tenant.id, "label": tenant.label}
    for feature in tenant.features:
        yield {
            "kind": "feature_instance",
            "id": tenant.instance_of(feature),
            "mandateId": tenant.id,
            "featureCode": feature,
            "label": feature.replace("-", " ").capitalize(),
        }
    for member in tenant.members:
        yield {
            "kind": "user",
            "id": member.id,
            "username": member.id,
            "email": f"{member.id}@{tenant.id}.example",
            "firstName": member.first_name,
            "lastName": member.last_name,
            "language": "en",
        }
        roles = ["admin", "member"] if member.admin else ["member"]
        yield {"kind": "membership", "mandateId": tenant.id, "userId": member.id, "roles": roles}
        for feature in member.habits:
            access = {"instanceId": tenant.instance_of(feature), "userId": member.id}
            yield {"kind": "feature_access", **access, "roles": ["admin" if member.admin else "user"]}


async def _add_prices(platform: Platform) -> None:
    path = "/api/billing/admin/prices"
    done = await platform.call("POST", path, _AS, content=_PRICES.read_bytes(), patience_s=_PATIENCE_S)
    if done["unreadable"]:
        raise StackError(f"{_PRICES} has prices that were not read: {done['unreadable']}")
    path = "/api/billing/admin/rates"
    known = {rate["currency"] for rate in (await platform.call("GET", path, _AS, patience_s=_PATIENCE_S))["items"]}
    for currency, rate in _RATES.items():
        if currency not in known:
            body = {"currency": currency, "rate": rate, "validFrom": _RATES_FROM}
            await platform.call("POST", path, _AS, body=body, patience_s=_PATIENCE_S)


async def _open_tenant(platform: Platform, tenant: Tenant) -> None:
    accounts = await _accounts(platform, tenant)
    settings = await platform.call("GET", f"/api/billing/admin/settings/{tenant.id}", _AS, patience_s=_PATIENCE_S)
    if tenant.address is not None:
        changes = {"billingAddress": {"company": tenant.label, **tenant.address}}
        path = f"/api/billing/admin/settings/{tenant.id}"
        await platform.call("POST", path, _AS, body=changes, patience_s=_PATIENCE_S)
    # Once money has moved, the model is what somebody wants it to be.
    if settings["billingModel"] != tenant.billing_model and not any(account["balance"] for account in accounts):
        body = {"billingModel": tenant.billing_model}
        await platform.call("POST", f"/api/billing/admin/model/{tenant.id}", _AS, body=body, patience_s=_PATIENCE_S)
    if tenant.credit:
        for user_id in [member.id for member in tenant.members] if tenant.billing_model == "PREPAY_USER" else [None]:
            await _give_credit(platform, tenant, user_id)
    if tenant.plan is not None:
        await _start_plan(platform, tenant, tenant.plan)


async def _accounts(platform: Platform, tenant: Tenant) -> list[dict[str, Any]]:
    """The tenant's accounts, once billing has heard from the directory of every member."""
    wanted = {member.id for member in tenant.members}
    deadline = time.monotonic() + _KNOWN_TIMEOUT_S
    while True:
        accounts: list[dict[str, Any]] = []
        try:
            path = f"/api/billing/admin/accounts/{tenant.id}"
            accounts = await platform.call("GET", path, _AS, patience_s=_PATIENCE_S)
        except PlatformError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
        if wanted <= {account["userId"] for account in accounts}:
            return accounts
        if time.monotonic() > deadline:
            raise StackError(f"billing did not learn of the members of {tenant.id} in {_KNOWN_TIMEOUT_S:.0f} s")
        await asyncio.sleep(_POLL_S)


async def _give_credit(platform: Platform, tenant: Tenant, user_id: str | None) -> None:
    body = {"amount": tenant.credit, "description": "Demo credit"} | ({"userId": user_id} if user_id else {})
    try:
        await platform.call(
            "POST",
            f"/api/billing/admin/credit/{tenant.id}",
            _AS,
            body=body,
            idempotency_key=f"demo-credit-{user_id or 'pool'}",
            patience_s=_PATIENCE_S,
        )
    except PlatformError as error:
        # It was given to an account that is not the one charged any more: somebody has switched the model.
        if error.code != "IDEMPOTENCY_MISMATCH":
            raise


async def _start_plan(platform: Platform, tenant: Tenant, plan: str) -> None:
    path = f"/api/subscriptions/{tenant.id}"
    deadline = time.monotonic() + _KNOWN_TIMEOUT_S
    while True:
        try:
            standing = await platform.call("GET", path, _AS, patience_s=_PATIENCE_S)
            break
        except PlatformError as error:
            if error.status != httpx.codes.NOT_FOUND or time.monotonic() > deadline:
                raise
        await asyncio.sleep(_POLL_S)
    if standing["status"] is None:
        await platform.call("POST", path, _AS, body={"planKey": plan}, patience_s=_PATIENCE_S)


def _given_stack() -> Mapping[str, Any]:
    """Give the stack that the options name, else the one that runs here; as in `stack.json`."""
    parser = argparse.ArgumentParser(prog="python -m deploy.simulator.seed", description="Makes the demo tenants.")
    parser.add_argument("--gateway", help="address of the gateway of a stack that was not started by rappen up")
    parser.add_argument("--stripe", help="address of its fake Stripe; needed with --gateway")
    parser.add_argument("--mail", help="page to which a payer comes back; needed with --gateway")
    given = parser.parse_args()
    if given.gateway is None:
        return running_stack(find_home())
    key_file = os.environ.get("RAPPEN_ISSUER_KEY_FILE")
    if given.stripe is None or given.mail is None or not key_file:
        parser.error("--gateway needs --stripe, --mail, and RAPPEN_ISSUER_KEY_FILE in the environment")
    issuer = describe_issuer(Path(key_file))
    return {"gateway": given.gateway, "stripe": given.stripe, "mail": given.mail, "issuer": issuer}


def main() -> int:
    """Seed the stack; 1 with a line on standard error if that fails."""
    try:
        asyncio.run(seed(_given_stack()))
    except StackError as error:
        print(f"seed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
