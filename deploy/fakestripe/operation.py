"""What an API operation is, and what its function gets to work with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from deploy.fakestripe.contract import API_VERSION
from deploy.fakestripe.store import Json, Store
from deploy.fakestripe.wire import StripeError, invalid, not_found

MAX_METADATA_KEYS = 50
MAX_METADATA_KEY_LENGTH = 40
MAX_METADATA_VALUE_LENGTH = 500


@dataclass(frozen=True)
class Settings:
    """How this process was started. `public_url` is where a browser reaches the hosted pages."""

    public_url: str
    webhook_url: str
    webhook_secret: str
    api_key: str | None = None


@dataclass
class Call:
    """One request, or one effect nobody requested through the API: then request and key are None.

    Effects collect their events here; they are delivered together when the call is over. `at` is the moment (seconds
    since 1970) of an effect that was due earlier than now, because the clock was moved over it.
    """

    store: Store
    settings: Settings
    params: Json = field(default_factory=dict)
    path: dict[str, str] = field(default_factory=dict)
    url: str = ""
    request_id: str | None = None
    idempotency_key: str | None = None
    events: list[Json] = field(default_factory=list)
    at: int | None = None

    @property
    def now(self) -> int:
        """The time of the effect in seconds, which is the fake's own unless it was due before."""
        return self.store.now() if self.at is None else self.at

    def emit(self, event_type: str, subject: Json, previous: Json | None = None) -> None:
        """Record an event with a snapshot of its object; `previous` holds the old values of changed members."""
        # Several times as fast as a deep copy, which is what moving the clock over months would spend its time on.
        data: Json = {"object": orjson.loads(orjson.dumps(subject))}
        if previous is not None:
            data["previous_attributes"] = previous
        event = {
            "id": self.store.new_id("evt_"),
            "object": "event",
            "api_version": API_VERSION,
            "created": self.now,
            "data": data,
            "livemode": False,
            "pending_webhooks": 0,
            "request": {"id": self.request_id, "idempotency_key": self.idempotency_key},
            "type": event_type,
        }
        self.events.append(self.store.add("event", event))

    def find(self, table: str, noun: str, key: str) -> Json:
        """Return the object named in the path, or answer 404."""
        row = self.store.table(table).get(key)
        if row is None:
            raise not_found(noun, key)
        return row

    def refer(self, table: str, noun: str, key: str, param: str) -> Json:
        """Return the object named by a parameter, or answer 400; a deleted one is as good as none."""
        row = self.store.table(table).get(key)
        if row is None or row.get("deleted"):
            raise not_found(noun, key, param, status=400)
        return row


@dataclass(frozen=True)
class Operation:
    """One method and path of the API, the SDK's type of its parameters, and the function that does it.

    `takes` names the parameters that have an effect here, those within others as in `items.quantity`; what Stripe takes
    beyond them is refused instead of ignored.
    """

    method: str
    path: str
    params: str
    run: Callable[[Call], Json]
    takes: tuple[str, ...] = ()


def retrieval(path: str, params: str, table: str, noun: str) -> Operation:
    """Make the operation that answers one object by the id at the end of its path."""
    name = path.rsplit("{", 1)[1].rstrip("}")
    return Operation("GET", path, params, lambda call: call.find(table, noun, call.path[name]))


def merged_metadata(current: Json, given: Any) -> Json:
    """Return metadata after an update: names are added or replaced, an empty value removes, "" removes all."""
    if given is None:
        return dict(current)
    if given == "":
        return {}
    merged = {name: value for name, value in {**current, **given}.items() if value != ""}
    if len(merged) > MAX_METADATA_KEYS:
        raise invalid(f"You can only specify up to {MAX_METADATA_KEYS} metadata keys.", "metadata")
    for name, value in merged.items():
        if len(name) > MAX_METADATA_KEY_LENGTH or len(value) > MAX_METADATA_VALUE_LENGTH:
            raise invalid("Metadata keys have up to 40 characters and values up to 500.", f"metadata[{name}]")
    return merged


def update(call: Call, row: Json, names: Iterable[str], event_type: str | None) -> Json:
    """Change the named members (an empty string unsets) and metadata, and emit the event when anything changed."""
    changes = {name: unset_if_empty(call.params[name]) for name in names if name in call.params}
    if "metadata" in call.params:
        changes["metadata"] = merged_metadata(row["metadata"], call.params["metadata"])
    previous = {name: row.get(name) for name, value in changes.items() if row.get(name) != value}
    if previous:
        row.update(changes)
        if event_type is not None:
            call.emit(event_type, row, previous)
    return row


def unset_if_empty(value: Any) -> Any:
    """Read Stripe's way of unsetting: an empty string means no value."""
    return None if value == "" else value


def flag(params: Json, name: str) -> bool:
    """Read a boolean that shares its parameter with words, where "true" arrives as a word."""
    return str(params.get(name, "false")).lower() not in {"false", ""}


def unsupported(param: str, word: str | None = None) -> StripeError:
    """Build the answer to what is right at Stripe and has no effect here: a parameter, or one of its words."""
    what = param if word is None else f"{param}={word}"
    return invalid(f"The fake Stripe does not support {what}.", param, "unsupported_by_fake")


def refuse_rest(params: Json, takes: Iterable[str], at: str = "") -> None:
    """Refuse parameters that are right but whose effect this fake does not have: all but those that `takes` names."""
    taken: dict[str, list[str]] = {}
    for path in takes:
        name, _, rest = path.partition(".")
        taken.setdefault(name, []).append(rest)
    for name, value in params.items():
        param = f"{at}[{name}]" if at else name
        if name not in taken:
            raise unsupported(param)
        if "" in taken[name]:
            continue
        for position, row in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(row, dict):
                refuse_rest(row, taken[name], param if position is None else f"{param}[{position}]")


def support_only(params: Json, name: str, words: Iterable[str], at: str | None = None) -> None:
    """Refuse a word that is right at Stripe but whose effect this fake does not have."""
    if params.get(name) not in (None, "", *words):
        raise unsupported(at or name, params[name])


def check_currency(code: str, param: str = "currency") -> str:
    """Return the currency in lower case, or answer 400 for what is no currency code."""
    lowered = code.lower()
    if len(lowered) != 3 or not (lowered.isascii() and lowered.isalpha()):
        raise invalid(f"Invalid currency: {code}.", param)
    return lowered


def check_amount(amount: int, param: str) -> None:
    """Refuse what no card payment can be: less than 50 or more than eight digits of the smallest unit."""
    if amount < 50:
        message = "Amount must convert to at least 50 cents (0.50 in the currency of the charge)."
        raise invalid(message, param, "amount_too_small")
    if amount > 99_999_999:
        raise invalid("Amount must be no more than 999,999.99.", param, "amount_too_large")
