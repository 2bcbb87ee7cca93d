"""The fake Stripe beside what the pinned SDK says of Stripe's API: operations, parameters, objects and their states."""

from __future__ import annotations

import re
import sys
import typing
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
import stripe
import stripe.params

from deploy.fakestripe.objects import OPERATIONS
from deploy.fakestripe.operation import Operation
from tests.integration.fakestripe_asked import Tour
from tests.integration.fakestripe_left_out import MEMBERS, STATES
from tests.integration.fakestripe_support import FakeStripeProcess, Json, Receiver, fake, receiver
from tests.integration.fakestripe_tour import take
from tests.support.stripe_described import StripeAnswers, held_to_stripe
from tests.support.stripe_sdk import Shapes, described, kind_of, members, operations, unnamed, words_of
from tests.support.waiting import wait_until

# Fixtures, which tests use by the names of their arguments.
__all__ = ["fake", "receiver"]

NAMES = [f"{operation.method} {operation.path}" for operation in OPERATIONS]


@pytest.fixture(scope="module")
def answers() -> Iterator[StripeAnswers]:
    """What a whole tour has shown."""
    with held_to_stripe(described_too=True) as seen:
        webhooks = Receiver(seen.sent)
        tour = Tour(webhooks.url)
        try:
            take(tour)
            state = tour.fake.http.get
            wait_until(lambda: state("/_control/state").json()["undelivered"] == 0, what="all webhooks are sent")
        finally:
            tour.fake.stop()
            webhooks.close()
        seen.look()
        yield seen


def _parameters(kind: Any) -> dict[str, Any]:
    """The parameters that a type of the SDK declares, each with its own type."""
    names = {"Mapping": Mapping, "StripeContext": object, **vars(sys.modules[kind.__module__])}
    return typing.get_type_hints(kind, globalns=names)


def _taken(operation: Operation) -> dict[str, Any]:
    """The parameters of an operation."""
    declared = _parameters(described(operation.method, operation.path).params)
    return {name: hint for name, hint in declared.items() if name not in stripe.RequestOptions.__annotations__}


def _is_declared(path: str, declared: dict[str, Any]) -> bool:
    """Tell whether a parameter is there, those within others as in `items.quantity`."""
    name, _, rest = path.partition(".")
    return name in declared and (not rest or _is_declared(rest, _parameters(_inner(declared[name]))))


def _inner(hint: Any) -> Any:
    """The type of the parameters within a parameter, if it has some."""
    # Those of the SDK are of typing_extensions, which `typing.is_typeddict` does not know.
    if hasattr(hint, "__required_keys__"):
        return hint
    return next((found for each in typing.get_args(hint) if (found := _inner(each)) is not None), None)


def _is_list(hint: Any) -> bool:
    return list in map(typing.get_origin, (hint, *typing.get_args(hint)))


def _is_map(hint: Any) -> bool:
    return dict in map(typing.get_origin, (hint, *typing.get_args(hint)))


def _words(hint: Any) -> list[str]:
    """The words that a parameter takes, or those in the list that it takes."""
    inside = [word for each in typing.get_args(hint) if typing.get_origin(each) is list for word in _words(each)]
    items = typing.get_args(hint)[0] if typing.get_origin(hint) is list else hint
    return inside + [word for word in words_of(items) if word]


def _required(operation: Operation) -> Json:
    """A form with what the operation cannot do without."""
    form: Json = {}
    for name, hint in _taken(operation).items():
        if name in described(operation.method, operation.path).params.__required_keys__:  # type: ignore[attr-defined]
            form |= _sample(name, hint)
    return form


def _sample(name: str, hint: Any) -> Json:
    """A form with one parameter, of a value that its type allows."""
    inner = _inner(hint)
    at = f"{name}[chf]" if _is_map(hint) else f"{name}[0]" if _is_list(hint) else name
    if inner is None:
        numbers = {int, float, Decimal} & {hint, *typing.get_args(hint)}
        other = "" if words_of(hint) == ("",) and str not in typing.get_args(hint) else "1" if numbers else "true"
        return {at: next(iter(_words(hint)), other)}
    hints = _parameters(inner)
    chosen = inner.__required_keys__ or set(sorted(hints)[:1])
    return {key: value for each in sorted(chosen) for key, value in _sample(f"{at}[{each}]", hints[each]).items()}


def _ask(fake: FakeStripeProcess, operation: Operation, form: Json) -> Json:
    """Send a request that is to be refused, about objects that are not there; return the error."""
    path = re.sub(r"\{\w+\}", "none", operation.path)
    sent: Json = {"params": form} if operation.method != "POST" else {"data": form}
    answer = fake.http.request(operation.method, path, **sent)
    assert answer.status_code == 400, answer.text
    error: Json = answer.json()["error"]
    return error


@pytest.mark.parametrize("operation", OPERATIONS, ids=NAMES)
def test_an_operation_is_one_of_stripes_and_takes_what_that_takes(operation: Operation) -> None:
    kind: Any = stripe.params
    for part in operation.params.split("."):
        kind = getattr(kind, part)
    assert kind is described(operation.method, operation.path).params
    assert [path for path in operation.takes if not _is_declared(path, _taken(operation))] == []


@pytest.mark.parametrize("operation", OPERATIONS, ids=NAMES)
def test_a_parameter_that_stripe_does_not_know_is_refused(fake: FakeStripeProcess, operation: Operation) -> None:
    error = _ask(fake, operation, {"colour": "red"})
    assert (error["code"], error["param"]) == ("parameter_unknown", "colour")
    assert error["message"] == "Received unknown parameter: colour"
    for name, hint in _taken(operation).items():
        if _inner(hint) is not None and not _is_list(hint) and not _is_map(hint):
            error = _ask(fake, operation, {f"{name}[colour]": "red"})
            assert (error["code"], error["param"]) == ("parameter_unknown", f"{name}[colour]")


@pytest.mark.parametrize("operation", OPERATIONS, ids=NAMES)
def test_a_word_that_stripe_does_not_know_is_refused(fake: FakeStripeProcess, operation: Operation) -> None:
    for name, hint in _taken(operation).items():
        if _words(hint) and _inner(hint) is None:
            shown = f"{name}[0]" if _is_list(hint) else name
            error = _ask(fake, operation, {**_required(operation), shown: "colour"})
            assert error["param"] == shown


@pytest.mark.parametrize("operation", OPERATIONS, ids=NAMES)
def test_what_would_have_no_effect_is_refused_and_not_ignored(fake: FakeStripeProcess, operation: Operation) -> None:
    taken = {path.partition(".")[0] for path in operation.takes} | {"expand"}
    for name, hint in _taken(operation).items():
        if name not in taken:
            error = _ask(fake, operation, {**_required(operation), **_sample(name, hint)})
            assert (error.get("code"), error.get("param")) == ("unsupported_by_fake", name), error


def test_what_the_fake_does_not_have_is_said_to_be_unknown(fake: FakeStripeProcess) -> None:
    """Subscription schedules among them; never is anything answered as if it had been done."""
    there = {(operation.method, unnamed(operation.path)) for operation in OPERATIONS}
    missing = [each for each in operations() if each not in there]
    assert ("POST", "/v1/subscription_schedules") in missing
    answered = {}
    for method, path in missing:
        answer = fake.http.request(method, path.replace("{}", "none"))
        answered[method, path] = (answer.status_code, answer.json()["error"]["message"].partition(" (")[0])
    # Where the fake has an id in the place of a word, it is asked for an object of that name.
    words = {("POST", "/v1/invoices/create_preview"): (404, "No such invoice: 'create_preview'")}
    honest = dict.fromkeys(missing, (404, "Unrecognized request URL"))
    assert answered == {**honest, **words}


def test_every_operation_answers_and_every_event_tells_what_stripe_would(answers: StripeAnswers) -> None:
    assert answers.found() == []
    asked = {f"{method} {path}" for method, path in answers.carried_out}
    assert asked == set(NAMES)


def test_every_state_that_objects_have_at_stripe_is_seen_or_left_out_for_a_reason(answers: StripeAnswers) -> None:
    declared = {
        kind: set(words_of(members(kind_of({"object": kind}))["status"]))
        for kind in answers.members
        if "status" in members(kind_of({"object": kind}))
    }
    closed = {kind: states for kind, states in declared.items() if states}
    assert {"subscription", "invoice", "payment_intent", "setup_intent", "dispute", "charge"} <= closed.keys()
    unseen = {kind: states - answers.words[kind, "status"] for kind, states in closed.items()}
    assert {kind: states for kind, states in unseen.items() if states} == {
        kind: set(states) for kind, states in STATES.items()
    }


def test_every_member_that_objects_have_at_stripe_is_there_or_left_out_for_a_reason(answers: StripeAnswers) -> None:
    absent = {
        kind: members(kind_of({"object": kind})).keys() - seen - {"deleted"} for kind, seen in answers.members.items()
    }
    # Each kind of payment method has a member of its own.
    absent["payment_method"] -= set(words_of(members(stripe.PaymentMethod)["type"]))
    assert {kind: names for kind, names in absent.items() if names} == {
        kind: set(names) for kind, names in MEMBERS.items()
    }


def test_the_shapes_see_what_is_missing_unknown_and_wrong() -> None:
    refund: Json = {
        "id": "re_1",
        "object": "refund",
        "amount": "5",
        "created": 1,
        "colour": "red",
        "metadata": {"a": 1},
        "pending_reason": "boredom",
        "charge": {"id": "ch_1", "object": "charge", "deleted": True, "amount": 1},
    }
    assert sorted(fault.partition(" is none of ")[0] for fault in Shapes().faults(refund, stripe.Refund, "re")) == [
        "re.amount: '5' is no <class 'int'>",
        "re.charge.amount: what is deleted has it no more",
        "re.colour: Stripe has no such member",
        "re.currency: missing",
        "re.metadata.a: 1 is no <class 'str'>",
        "re.pending_reason: 'boredom'",
    ]
    old: Json = {"amount": None, "colour": "red", "destination_details": {"type": 1}}
    assert len(Shapes().changed(old, stripe.Refund, "re")) == 3
