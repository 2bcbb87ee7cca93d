"""`rappen token`: what no service would take is refused where it is given, with what there is."""

from __future__ import annotations

import json

import pytest

from deploy.local.errors import StackError
from deploy.ops.tokens import _claims
from services.chassis.operations import EXTENSION
from services.gateway.access.scopes import SCOPES
from tests.support.stack import ROOT


@pytest.mark.parametrize("user", ["", "a b", "x" * 65, "ü", "a/b", "a\n", "service:reporter"])
def test_what_cannot_be_a_persons_id_is_refused(user: str) -> None:
    with pytest.raises(StackError, match="--user"):
        _claims(user, system_admin=False, service=None, scope="")


@pytest.mark.parametrize("service", ["", "a b", "x" * 57, "ü"])
def test_what_cannot_be_a_programs_name_is_refused(service: str) -> None:
    with pytest.raises(StackError, match="--service"):
        _claims(None, system_admin=False, service=service, scope="usage:write")


@pytest.mark.parametrize("scope", ["usage:read", "usage:write usage:chek", "USAGE:WRITE", "usage:write,usage:check"])
def test_a_scope_that_there_is_not_is_refused_with_those_that_there_are(scope: str) -> None:
    with pytest.raises(StackError, match="usage:write, usage:check"):
        _claims(None, system_admin=False, service="reporter", scope=scope)


def test_what_there_is_is_taken() -> None:
    assert _claims("auth0|7.a-b_c:d@e", system_admin=True, service=None, scope="")["sub"] == "auth0|7.a-b_c:d@e"
    claims = _claims(None, system_admin=False, service="reporter", scope=" usage:check  usage:write ")
    assert claims == {"sub": "service:reporter", "scope": "usage:check usage:write"}


def test_the_scopes_are_those_that_operations_ask_for() -> None:
    asked = set()
    for file in (ROOT / "services").glob("*/openapi.json"):
        for methods in json.loads(file.read_text())["paths"].values():
            asked |= {described[EXTENSION].get("scope") for described in methods.values()} - {None}
    assert asked == SCOPES.keys()
