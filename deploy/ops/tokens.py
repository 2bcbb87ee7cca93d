"""`rappen token`: bearer tokens for development, signed with the key of the stack."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.local.errors import StackError
from services.gateway.access.scopes import SCOPES

_LIFETIME_S = 12 * 60 * 60
SERVICE_ACCOUNT_PREFIX = "service:"


def token(
    user: Annotated[str | None, typer.Option(help="Id of a person.")] = None,
    system_admin: Annotated[bool, typer.Option("--system-admin", help="The person is a system administrator.")] = False,
    service: Annotated[str | None, typer.Option(help="Name of a service account.")] = None,
    scope: Annotated[str, typer.Option(help='What the service account may do, as in "usage:write usage:check".')] = "",
) -> None:
    """Print a bearer token for a person (--user) or a service account (--service), good for twelve hours."""
    claims = _claims(user, system_admin=system_admin, service=service, scope=scope)
    print(sign(_issuer(), claims, now_s=int(time.time())))


def sign(issuer: dict[str, str], claims: dict[str, Any], *, now_s: int) -> str:
    """Sign a token with the key of a stack, as described under `issuer` in its `stack.json`."""
    import jwt

    return jwt.encode(
        {"iss": issuer["issuer"], "aud": issuer["audience"], "iat": now_s, "exp": now_s + _LIFETIME_S, **claims},
        Path(issuer["private_key_file"]).read_bytes(),
        algorithm="ES256",
        headers={"typ": "at+jwt", "kid": issuer["key_id"]},
    )


def _issuer() -> dict[str, str]:
    """Give the issuer of the running stack, or the one whose key file is named in the environment, as with Docker."""
    from deploy.local.control import running_stack
    from deploy.local.home import find_home
    from deploy.local.identity import describe_issuer

    key_file = os.environ.get("RAPPEN_ISSUER_KEY_FILE")
    if key_file:
        return describe_issuer(Path(key_file))
    issuer: dict[str, str] = running_stack(find_home())["issuer"]
    return issuer


def _claims(user: str | None, *, system_admin: bool, service: str | None, scope: str) -> dict[str, Any]:
    if (user is None) == (service is None):
        raise StackError("a token is for a person or a service account: give --user ID or --service NAME")
    if user is not None:
        if scope:
            raise StackError("--scope is for a service account; what a person may do follows from the directory")
        _require_id("--user", user)
        if user.startswith(SERVICE_ACCOUNT_PREFIX):
            raise StackError("--user is a person; service accounts have --service")
        return {"sub": user, "rappen_system_admin": True} if system_admin else {"sub": user}
    if system_admin:
        raise StackError("--system-admin is for a person")
    if not scope.split():
        raise StackError('a service account needs --scope, as in --scope "usage:write usage:check"')
    subject = f"{SERVICE_ACCOUNT_PREFIX}{service}"
    _require_id("--service", subject)
    unknown = [each for each in scope.split() if each not in SCOPES]
    if unknown:
        raise StackError(f"there is no scope {unknown[0]!r}; there are {', '.join(SCOPES)}")
    return {"sub": subject, "scope": " ".join(scope.split())}


def _require_id(option: str, subject: str) -> None:
    """Refuse what no service would take for an id."""
    if not re.fullmatch(r"[A-Za-z0-9._:@|\-]{1,64}", subject, re.ASCII) or subject == SERVICE_ACCOUNT_PREFIX:
        raise StackError(f"{option} is no id: 1 to 64 letters, digits or the characters . _ : @ | -")
