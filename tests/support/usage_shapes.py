"""Usage events of every shape, drawn at random: usual ones, unusual ones, and those that are refused."""

import json
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

from rappen_contracts.usage.v1 import TOKEN_KINDS

__all__ = ["USUAL_HEADERS", "any_body", "any_headers", "changed_text", "text_of", "usual_body"]

# What is of no kind that somebody expects: the ends of ranges, other types, forms that only some readers take.
ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    1.0,
    1e2,
    2**53 - 1,
    2**53,
    10**30,
    "",
    "0",
    "a" * 120,
    "a" * 121,
    "a" * 501,
    "a\0",
    "a\n",
    "ä€🧾",
    "\u2028\x7f\x1f",
    "\u017f",
    [],
    {},
    {"a": "b"},
    {"a": {}},
]
AMOUNTS: list[Any] = [
    *("0", "0.0", "0.50", "1", "10.00", "100", "999999999", "1000000000", "1E2", "+1", "-1", "-0", "01", "1.", ".5"),
    *("0.000000000000000000000001", "0.0000000000000000000000010", "1_0", " 1", "1\n", "\u0661", "NaN", 1, 1.5, None),
]
_TEXTS = ["", "a", "ä", '"', "\\", '":', "\x1f", "\0", "€ 🧾", "\u2028\x7f", "long " * 20]
_NAMES = ["anthropic", "claude", "a" * 120, "Ä", "chat", 'x":y']
_IDS_OF_OURS = ["m", "user-1", "a:b|c@d.e_f-g", "x" * 64]


def _count(random: Random) -> int:
    return random.choice([0, 1, random.randrange(2_000), random.randrange(10**7), 2**53 - 1])


def _map(random: Random) -> dict[str, str]:
    return {random.choice(_TEXTS): random.choice(_TEXTS) for _ in range(random.randrange(4))}


def _tokens(random: Random) -> dict[str, int]:
    kinds = random.sample(TOKEN_KINDS, random.choice([1, 2, 2, 3, 13]))
    return {kind: random.choice([1, random.randrange(5_000), random.randrange(10**6)]) for kind in kinds}


def _quantities(random: Random) -> dict[str, str]:
    amounts = ["0", "0.0", "1", "1.50", "12", "0.000000000000000000000001", "99999999999999", "2.10000"]
    return {random.choice(["images", "seconds", "web_searches", "Ä"]): random.choice(amounts) for _ in range(2)}


_OPTIONAL: dict[str, Callable[[Random], Any]] = {
    "kind": lambda _: "ai",
    "service_tier": lambda random: random.choice(["standard", "batch", "flex", "default"]),
    "conditions": _map,
    "response_id": lambda random: random.choice(_TEXTS),
    "feature_code": lambda random: random.choice(_NAMES),
    "feature_instance_id": lambda random: random.choice(_IDS_OF_OURS),
    "workflow_id": lambda random: random.choice(_IDS_OF_OURS),
    "hold_id": lambda random: str(UUID(int=random.getrandbits(128))),
    "description": lambda random: random.choice(_TEXTS),
    "processing_time_ms": _count,
    "bytes_sent": _count,
    "bytes_received": _count,
    "error_count": _count,
    "bytes_in_use": _count,
    "metadata": _map,
}
_REQUIRED = ("mandate_id", "user_id", "provider", "model")


def usual_body(random: Random) -> dict[str, Any]:
    """The data of an event as publishers send it: with a cost or with tokens, and some of what is optional."""
    body: dict[str, Any] = {
        "mandate_id": random.choice(_IDS_OF_OURS),
        "user_id": random.choice(_IDS_OF_OURS),
        "provider": random.choice(_NAMES),
        "model": random.choice(_NAMES),
    }
    given = random.choice(
        [("cost",), ("tokens",), ("tokens",), ("cost", "tokens"), ("quantities",), ("tokens", "quantities")]
    )
    if "quantities" in given:
        body["quantities"] = _quantities(random)
    if "cost" in given:
        amount = Decimal(random.randrange(10**9)).scaleb(-random.choice([0, 2, 6, 12, 24]))
        body["cost"] = {"amount": format(amount, "f"), "currency": random.choice(["USD", "CHF", "EUR"])}
    if "tokens" in given:
        body["tokens"] = _tokens(random)
    return body | {name: made(random) for name, made in _OPTIONAL.items() if random.random() < 0.2}


def any_body(random: Random) -> dict[str, Any]:
    """The data of an event, of which up to two parts are something else than they should be."""
    body = usual_body(random)
    for _ in range(random.randrange(3)):
        _spoil(random, body)
    items = list(body.items())
    if random.random() < 0.5:
        random.shuffle(items)
    return dict(items)


def _spoil(random: Random, body: dict[str, Any]) -> None:
    known = [*_REQUIRED, *_OPTIONAL, "cost", "tokens", "quantities", "unknown"]
    match random.randrange(7):
        case 6:
            id_ = UUID(int=random.getrandbits(128))
            spelled = [str(id_).upper(), f"{{{id_}}}", id_.urn, id_.hex, f"{id_}\n", str(id_)[:-1], f"{id_}0", "", None]
            body["hold_id"] = random.choice(spelled)
        case 5:
            name = random.choice(["images", "", "a" * 120, "a" * 121, "a\0", 'x":'])
            body["quantities"] = _quantities(random) | {name: random.choice([*AMOUNTS, "100000000000000"])}
        case 0:
            body[random.choice(known)] = random.choice(ODD)
        case 1:
            body.pop(random.choice(known), None)
        case 2:
            cost = {"amount": random.choice(AMOUNTS), "currency": random.choice(["USD", "XXX", "usd"])}
            body["cost"] = cost | random.choice([{}, {"extra": 1}])
        case 3:
            tokens = _tokens(random)
            total = random.choice([None, 0, 1, sum(tokens.values())])
            body["tokens"] = tokens | {"total": total, "provider_total": random.choice([None, 0, 7])}
        case _:
            tokens = body["tokens"] if isinstance(body.get("tokens"), dict) else {}
            kind = random.choice([*TOKEN_KINDS, "total", "provider_total", "prompt_tokens"])
            body["tokens"] = tokens | {kind: random.choice(ODD)}


def _compact(body: dict[str, Any]) -> str:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)


_STYLES: list[Callable[[dict[str, Any]], str]] = [
    _compact,
    json.dumps,
    lambda body: json.dumps(body, separators=(",", ":")),
    lambda body: json.dumps(body, indent=1, ensure_ascii=False),
]
_DAMAGES: list[Callable[[str], str]] = [
    lambda text: text[:-1] + ',"user_id":"again"}',
    lambda text: '{"user_id":"same",' + text[1:],
    lambda text: text[:-1] + ',"tokens":{"input":1,"input":1}}',
    lambda text: text[:-1] + ',"x":{"a":1,"a":2}}',
    lambda text: text[:-1] + ',"x":' + "[" * 300 + "]" * 300 + "}",
    lambda text: text[:-1] + ',"x":1e999}',
    lambda text: text[:-1] + ',"kind":"ai"}',
    lambda text: text[:-1] + ',"x":"\\ud800"}',
    lambda text: text.replace('":', '" :', 1),
    lambda text: text.replace('"user_id":"', '"user_id":"\\u0061', 1),
    lambda text: text.replace("0", "-0", 1),
    lambda text: text.replace('"input":1', '"input":1e1', 1),
    lambda text: text + " ",
    lambda text: text + "x",
    lambda text: "\ufeff" + text,
]


def text_of(random: Random, body: dict[str, Any]) -> bytes:
    """The text of a body in one of the styles of publishers."""
    return random.choice(_STYLES)(body).encode()


def changed_text(random: Random, body: dict[str, Any]) -> bytes:
    """The text of a body in one of the styles of publishers, sometimes damaged, sometimes with a byte changed."""
    text = random.choice(_STYLES)(body)
    if random.random() < 0.25:
        text = random.choice(_DAMAGES)(text)
    value = text.encode("utf-8", "surrogatepass")
    if random.random() < 0.1:
        at = random.randrange(len(value))
        value = value[:at] + bytes([random.randrange(256)]) + value[at + 1 :]
    return value


_ID = b"01a22370-5a9b-7455-8069-980f71bc9297"
_IDS: list[bytes | None] = [
    _ID.upper(),
    b"{" + _ID + b"}",
    b"urn:uuid:" + _ID,
    _ID.replace(b"-", b""),
    _ID[:-1],
    b"01a2237-05a9b-7455-8069-980f71bc9297",
    b"01a22370--5a9b7455-8069-980f71bc9297",
    b"01a22370-5a9b-7455-8069-980f71bc929-",
    b" " + _ID[1:],
    b"",
    b"\xff",
    None,
]
_TIMES: list[bytes | None] = [
    b"2026-05-04T10:00:00Z",
    b"2026-05-04T10:00:00+00:00",
    b"2026-05-04T10:00:00.5+00:00",
    b"2026-05-04T10:00:00.123456Z",
    b"2026-05-04T10:00:00.1234567Z",
    b"2026-05-04T10:00:00.123456789Z",
    b"2026-05-04T10:00:00.1234567890Z",
    b"2026-05-04T10:00:00.Z",
    b"2026-05-04T10:00:00,5Z",
    b"2026-05-04T10:00:00.5-00:00",
    b"2026-05-04T10:00:00.5+02:00",
    b"2026-05-04T10:00:00",
    b"2026-05-04t10:00:00.5z",
    b"2026-05-04 10:00:00.5Z",
    b"2026-05-04T24:00:00.5Z",
    b"2026-05-04T23:59:60Z",
    b"2026-02-30T10:00:00Z",
    b"20260504T100000.5Z",
    b"1999-12-31T23:59:59.999999Z",
    b"2000-01-01T00:00:00Z",
    b"0001-01-01T00:00:00Z",
    b"2026-05-04T12:05:00Z",
    b"2026-05-04T12:05:00.000001Z",
    b"9999-12-31T23:59:59Z",
    "2026-05-04T1\u0660:00:00Z".encode(),
    b"",
    None,
]
_SOURCES: list[bytes | None] = [b"", b"a b", b"a:b:c", b"1:b", b"/" + b"x" * 1023, b"/" + b"x" * 1024, b"\xff", None]
_OTHERS: list[bytes | None] = [b"", b"1.0", b"application/json", b"ch.rappen.usage.recorded.v2", b"\xff", None]
_CONTENT_TYPES = [b"application/json; charset=utf-8", b"application/cloudevents+json", b"text/plain", b"text/json"]


USUAL_HEADERS: dict[str, bytes | None] = {
    "ce_specversion": b"1.0",
    "ce_id": _ID,
    "ce_source": b"/service",
    "ce_type": b"ch.rappen.usage.recorded.v1",
    "ce_time": b"2026-05-04T10:00:00.25Z",
    "content-type": b"application/json",
}


def any_headers(random: Random) -> list[tuple[str, bytes | None]]:
    """The headers of a record, of which one may be something else than it should be."""
    named = dict(USUAL_HEADERS)
    match random.randrange(12):
        case 0:
            named["ce_id"] = random.choice(_IDS)
        case 1 | 2:
            named["ce_time"] = random.choice(_TIMES)
        case 3:
            named["ce_source"] = random.choice(_SOURCES)
        case 4:
            named[random.choice(list(named))] = random.choice(_OTHERS)
        case 5:
            named.pop(random.choice(list(named)))
        case 6:
            named["content-type"] = random.choice(_CONTENT_TYPES)
        case 7:
            return [*named.items(), random.choice([("ce_id", _ID), ("ce_id", b"x"), ("x", b"y"), ("x", None)])]
        case _:
            pass
    headers = list(named.items())
    random.shuffle(headers)
    return headers
