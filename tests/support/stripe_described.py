"""Every answer and event of the fake Stripe that a test gets is held against what the pinned SDK says Stripe sends.

`tests/integration/conftest.py` does it for whatever httpx client a test uses, the SDK's own among them; what does not
fit fails the test. Objects and events that a test put there as they are, of whatever shape, are passed over.
"""

import json
import re
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpx
import pytest

from deploy.fakestripe.objects import OPERATIONS
from tests.support.stripe_openapi import faults_of_answer, faults_of_object
from tests.support.stripe_sdk import ErrorObject, Shapes, described, kind_of, members, words_of

__all__ = ["StripeAnswers", "held_to_stripe", "operation_at"]

Json = dict[str, Any]


class StripeAnswers:
    """What was answered and sent: how it differs from Stripe's, and what of it has been seen."""

    def __init__(self, *, described_too: bool = False) -> None:
        self._faults: list[str] = []
        self._sent: deque[Json] = deque()
        # The operations that were carried out, as method and path.
        self.carried_out: set[tuple[str, str]] = set()
        # Of each kind of object its members, and of each member that has one of several words those that it had.
        self.members: defaultdict[str, set[str]] = defaultdict(set)
        self.words: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._described_too = described_too
        self._given: set[str] = set()
        self._shapes = Shapes(lambda row: row.get("id") in self._given)

    def asking(self, request: httpx.Request) -> None:
        """Note what a test puts there as it is, which may be told of before the request is answered."""
        if request.url.path in {"/_control/objects", "/_control/events"}:
            self._given.add(json.loads(request.content).get("id"))

    def answered(self, answer: httpx.Response) -> None:
        """Hold an answer of the API."""
        if "stripe-version" not in answer.headers:
            return
        method, path = answer.request.method, answer.request.url.path
        body = answer.json()
        told = f"{method} {path} {answer.status_code}"
        if answer.status_code != httpx.codes.OK:
            error = body.get("error")
            faults = self._shapes.faults(error, ErrorObject, "error") + [f"{name} beside error" for name in body][1:]
        else:
            operation = operation_at(method, path)
            self.carried_out.add(operation)
            faults = self._shapes.faults(body, described(*operation).answer, body.get("object", "answer"))
            faults += faults_of_answer(*operation, body) if self._described_too else []
        self._note(body)
        self._faults += [f"{told}: {fault}" for fault in faults]
        for row in body["data"] if body.get("object") == "list" else [body]:
            if row.get("object") == "event":
                self._hold(row)

    def sent(self, event: Json) -> None:
        """Take an event that came as a webhook, in whatever thread; `look` holds it."""
        self._sent.append(event)

    def look(self) -> None:
        """Hold what has come as webhooks."""
        while self._sent:
            self._hold(self._sent.popleft())

    def found(self) -> list[str]:
        """What was not as Stripe's since this was asked last."""
        self.look()
        faults, self._faults = self._faults, []
        return list(dict.fromkeys(faults))

    def _hold(self, event: Json) -> None:
        """Hold an event, with the object in it."""
        if event["id"] in self._given:
            return
        subject, before = event["data"]["object"], event["data"].get("previous_attributes")
        at = f"{event['type']} {subject.get('id')}"
        faults = self._shapes.faults(event, kind_of(event), at)
        kind = kind_of(subject)
        faults += [f"{at}: no kind of object"] if kind is None else self._shapes.faults(subject, kind, at)
        faults += faults_of_object(subject["object"], subject) if self._described_too else []
        if kind is not None and before is not None and subject.get("id") not in self._given:
            faults += self._shapes.changed(before, kind, f"{at} before")
        self._note(event)
        self._faults += faults

    def _note(self, value: Any) -> None:
        """Remember what objects had, wherever they are in an answer."""
        for each in value if isinstance(value, list) else value.values() if isinstance(value, dict) else []:
            self._note(each)
        kind = kind_of(value)
        if kind is None or value.get("id") in self._given or value.get("deleted"):
            return
        self.members[value["object"]].update(value)
        for name, hint in members(kind).items():
            if words_of(hint) and isinstance(value.get(name), str):
                self.words[value["object"], name].add(value[name])


@contextmanager
def held_to_stripe(*, described_too: bool = False) -> Iterator[StripeAnswers]:
    """Holds the answers to every client within; `described_too` beside Stripe's OpenAPI description as well."""
    answers = StripeAnswers(described_too=described_too)
    send, send_async = httpx.Client.send, httpx.AsyncClient.send

    def sending(client: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        answers.asking(request)
        answer = send(client, request, **options)
        answers.answered(answer)
        return answer

    async def sending_async(client: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        answers.asking(request)
        answer = await send_async(client, request, **options)
        answers.answered(answer)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.Client, "send", sending)
        patch.setattr(httpx.AsyncClient, "send", sending_async)
        yield answers


def operation_at(method: str, path: str) -> tuple[str, str]:
    """The operation of the fake that serves a path."""
    return next((at, pattern) for at, pattern, match in _patterns() if at == method and match.fullmatch(path))


@cache
def _patterns() -> list[tuple[str, str, re.Pattern[str]]]:
    """The operations as the fake tries them."""
    return [
        (operation.method, operation.path, re.compile(re.sub(r"\{\w+\}", "[^/]+", operation.path)))
        for operation in OPERATIONS
    ]
