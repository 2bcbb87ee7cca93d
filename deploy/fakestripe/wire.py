"""Stripe's wire: form bodies with bracketed names, error bodies and idempotency keys."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson

from deploy.fakestripe.store import Json, Store

MAX_BODY_BYTES = 1_000_000
MAX_FIELDS = 2_000
MAX_DEPTH = 10
MAX_INDEX_DIGITS = 6
MAX_KEY_LENGTH = 255
KEY_LIFETIME_S = 24 * 3600

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")


class StripeError(Exception):
    """An answer with Stripe's error body; `extra` holds further members such as decline_code."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        extra: Json | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        members = {"code": code, "message": message, "param": param, "type": kind, **(extra or {})}
        self.body: Json = {"error": {name: value for name, value in members.items() if value is not None}}


def invalid(message: str, param: str | None = None, code: str | None = None) -> StripeError:
    """Build the 400 answer to a request that cannot be served as it is."""
    return StripeError(400, message, code=code, param=param)


def missing(param: str) -> StripeError:
    """Build the 400 answer to a request without a parameter it needs."""
    return invalid(f"Missing required param: {param}.", param, "parameter_missing")


def not_found(noun: str, key: str, param: str = "id", status: int = 404) -> StripeError:
    """Build the answer for an id nobody knows: 404 when it is in the path, 400 when a parameter names it."""
    return StripeError(status, f"No such {noun}: '{key}'", code="resource_missing", param=param)


def decode_form(text: str) -> Json:
    """Turn `items[0][price]=x` and the like into nested objects and lists of strings."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except (ValueError, UnicodeDecodeError) as error:
        raise invalid(f"Invalid form body: {error}") from error
    tree: Json = {}
    for name, value in pairs:
        _put(tree, name, value)
    return {name: _with_lists(name, value) for name, value in tree.items()}


def _put(tree: Json, name: str, value: str) -> None:
    match = _NAME.fullmatch(name)
    if match is None:
        raise invalid(f"Invalid parameter name: {name}", name)
    steps = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
    if len(steps) > MAX_DEPTH:
        raise invalid(f"Parameter is nested too deeply: {name}", name)
    node = tree
    for step in steps[:-1]:
        node = node.setdefault(step or str(len(node)), {})
        if not isinstance(node, dict):
            raise invalid(f"Parameter is given both as a value and as an object: {name}", name)
    last = steps[-1] or str(len(node))
    if isinstance(node.get(last), dict):
        raise invalid(f"Parameter is given both as a value and as an object: {name}", name)
    node[last] = value


def _with_lists(name: str, value: Any) -> Any:
    """Turn objects with only numeric names into lists; names inside metadata are the caller's own."""
    if not isinstance(value, dict):
        return value
    children = {key: _with_lists(key, child) for key, child in value.items()}
    if name != "metadata" and all(key.isdecimal() and len(key) <= MAX_INDEX_DIGITS for key in children):
        return [children[key] for key in sorted(children, key=int)]
    return children


@dataclass
class Answer:
    """Status and body of a request that was executed, and whether it was replayed."""

    status: int
    body: Json
    replay_of: str | None = None


@dataclass(frozen=True)
class Claim:
    """The right of one request to execute under its idempotency key.

    `stored` is the answer of an earlier request, `keep` makes an answer the one every later request gets.
    """

    stored: Answer | None
    keep: Callable[[Answer], None]


class Idempotency:
    """First answers by idempotency key: kept for 24 hours, replayed for equal requests, refused for others."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._in_flight: set[str] = set()

    @contextmanager
    def claim(self, key: str | None, request_id: str, target: str, params: Json) -> Iterator[Claim]:
        """Hold the key while the request executes; without a kept answer the key is free again afterwards."""
        if key is None:
            yield Claim(None, lambda answer: None)
            return
        if not key or len(key) > MAX_KEY_LENGTH:
            raise invalid(f"Idempotency keys have 1 to {MAX_KEY_LENGTH} characters.")
        if key in self._in_flight:
            message = f"There is currently another in-progress request using this Idempotent Key: {key}."
            raise StripeError(409, message, kind="idempotency_error", code="idempotency_key_in_use")
        fingerprint = hashlib.sha256(orjson.dumps([target, params], option=orjson.OPT_SORT_KEYS)).hexdigest()

        def keep(answer: Answer) -> None:
            self._store.table("idempotency")[key] = {
                "fingerprint": fingerprint,
                "status": answer.status,
                "body": answer.body,
                "request_id": request_id,
                "created": self._store.now(),
            }

        stored = self._stored(key, fingerprint)
        self._in_flight.add(key)
        try:
            yield Claim(stored, keep)
        finally:
            self._in_flight.discard(key)

    def _stored(self, key: str, fingerprint: str) -> Answer | None:
        entry = self._store.table("idempotency").get(key)
        if entry is None or entry["created"] + KEY_LIFETIME_S < self._store.now():
            return None
        if entry["fingerprint"] != fingerprint:
            message = (
                "Keys for idempotent requests can only be used with the same endpoint and parameters they were first"
                f" used with. Try using a key other than '{key}' if you meant to execute a different request."
            )
            raise StripeError(400, message, kind="idempotency_error")
        return Answer(entry["status"], entry["body"], entry["request_id"])
