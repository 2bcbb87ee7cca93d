"""The fast form of reading usage.recorded, for those who read very many; `rappen_contracts.decode` is the contract.

`read` takes the records that are as most publishers send them, and says None of every other: those go the published
way, which alone refuses. What makes it safe is an equality, proved by tests/property/test_fast_reading.py: whatever
`read` takes, `decode` takes too, with the same id, time, digest and data. It rests on these:

* msgspec checks types, ranges, lengths and patterns as the models do, and refuses what they refuse: fractions,
  booleans, text for numbers, unknown names within `tokens`. Text that has an escaped NUL is left to the models.
* The digest is over the canonical text of the data, which the encoder below writes as the models do: their order of
  fields, sorted maps, defaults left out, decimals without trailing zeros.
* The canonical text has every key once, and no part of it is longer than what it was read from. So where it is as long
  as the record's own text, that had no duplicate or unknown key, no default and no white space. Any other text is
  searched for duplicate keys as `decode` does it.

It needs the extra `rappen-contracts[fast]`.
"""

import re
from binascii import a2b_hex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, NamedTuple, TypeAlias

import msgspec

from rappen_contracts.codec import FUTURE_MAX, JSON, checked_source, digest_state
from rappen_contracts.errors import ContractError
from rappen_contracts.json_text import parse_json
from rappen_contracts.registry import USAGE_RECORDED_V1
from rappen_contracts.types import CURRENCIES, INTEGER_MAX, since_epoch

__all__ = ["Cost", "FastUsage", "Names", "Tokens", "UsageData", "read"]

Count = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]
# Decimals in the form in which they are kept but for zeros at their end; every other form goes the published way.
_Amount = Annotated[str, msgspec.Meta(pattern=r"\A(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,24})?\Z")]
_Quantity = Annotated[str, msgspec.Meta(pattern=r"\A(?:0|[1-9][0-9]{0,13})(?:\.[0-9]{1,24})?\Z")]
# An id as it is kept; every other spelling goes the published way.
_HoldId = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")]
_NAME_LENGTH_MAX = 120
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=_NAME_LENGTH_MAX)]

_TYPE = USAGE_RECORDED_V1.type.encode()
_JSON = JSON.encode()
_FUTURE_MAX = FUTURE_MAX // timedelta(microseconds=1)
_SECOND_SHAPE = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}\Z").match
_IDENTIFIER = re.compile(r"[A-Za-z0-9._:@|\-]{1,64}").fullmatch
# By what the number of a fraction of a second is multiplied, by its digits.
_MICROS: dict[int, int] = {digits: 10 ** (6 - digits) for digits in range(1, 7)}
# Bounds of what is remembered; of names also all their characters, of which each may take four bytes.
_NAMES_MAX, _SECONDS_MAX, _SOURCES_MAX = 50_000, 10_000, 1_000
_NAMES_CHARACTERS_MAX = 6_000_000


class Tokens(msgspec.Struct, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """Token counts, in the order of `TOKEN_KINDS`."""

    input: Count = 0
    cache_read: Count = 0
    cache_write: Count = 0
    cache_write_1h: Count = 0
    output: Count = 0
    reasoning: Count = 0
    audio_input: Count = 0
    audio_cache_read: Count = 0
    audio_output: Count = 0
    image_input: Count = 0
    image_cache_read: Count = 0
    image_output: Count = 0
    tool_input: Count = 0
    total: Count | None = None
    provider_total: Count | None = None


class Cost(msgspec.Struct, gc=False):
    """What the provider charged; the amount is decimal text."""

    amount: _Amount
    currency: str


class UsageData(msgspec.Struct, omit_defaults=True):
    """The data of usual usage: `UsageRecorded` of kind `ai`, in its order; decimals and the id of a hold are text."""

    mandate_id: str
    user_id: str
    kind: Literal["ai"] = "ai"
    provider: str | None = None
    model: str | None = None
    cost: Cost | None = None
    tokens: Tokens | None = None
    quantities: Annotated[dict[_Name, _Quantity], msgspec.Meta(min_length=1)] | None = None
    service_tier: _Name | None = None
    conditions: dict[str, str] | None = None
    response_id: str | None = None
    feature_code: str | None = None
    feature_instance_id: str | None = None
    workflow_id: str | None = None
    hold_id: _HoldId | None = None
    description: Annotated[str, msgspec.Meta(max_length=500)] | None = None
    processing_time_ms: Count | None = None
    bytes_sent: Count | None = None
    bytes_received: Count | None = None
    error_count: Count | None = None
    bytes_in_use: Count | None = None
    metadata: Annotated[dict[str, str], msgspec.Meta(max_length=20)] | None = None


# What decides on where usage is booked: mandate, member, provider, model, feature and feature instance.
Names: TypeAlias = tuple[str, str, str | None, str | None, str | None, str | None]


class FastUsage(NamedTuple):
    """A record that was read: `time` is microseconds since the year 2000, `counts` are those of the token kinds in
    their order, empty where no tokens were reported."""

    id: bytes
    time: int
    digest: bytes
    data: UsageData
    names: Names
    counts: tuple[int, ...]


class _Seconds(dict[bytes, int]):
    """Whole seconds, in microseconds since the year 2000, by their text; few are in use at a time."""

    def __missing__(self, text: bytes) -> int:
        if not _SECOND_SHAPE(text):
            raise ValueError("another form of a time")
        if len(self) >= _SECONDS_MAX:
            self.clear()
        known = self[text] = since_epoch(datetime.fromisoformat(text.decode()).replace(tzinfo=UTC))
        return known


class _KnownNames(dict[Names, Names]):
    """Names that the contract allows. They come again and again, and are checked once."""

    characters = 0

    def __missing__(self, names: Names) -> Names:
        mandate_id, user_id, provider, model, feature_code, instance_id = names
        identifiers = (mandate_id, user_id) if instance_id is None else (mandate_id, user_id, instance_id)
        texts = (provider, model) if feature_code is None else (provider, model, feature_code)
        if not (
            all(map(_IDENTIFIER, identifiers))
            and all(each is not None and 1 <= len(each) <= _NAME_LENGTH_MAX for each in texts)
        ):
            raise ValueError("names for the models to refuse")
        characters = sum(len(each) for each in names if each is not None)
        if len(self) >= _NAMES_MAX or self.characters + characters > _NAMES_CHARACTERS_MAX:
            self.clear()
            self.characters = 0
        self.characters += characters
        self[names] = names
        return names


class _Sources(dict[bytes, bool]):
    """Sources that the contract allows."""

    def __missing__(self, source: bytes) -> bool:
        checked_source(source.decode())
        if len(self) >= _SOURCES_MAX:
            self.clear()
        self[source] = True
        return True


_seconds, _known_names, _sources = _Seconds(), _KnownNames(), _Sources()
_decode = msgspec.json.Decoder(UsageData).decode
_encode = msgspec.json.Encoder().encode
_values = msgspec.structs.astuple
_digest = digest_state(USAGE_RECORDED_V1.name)


def read(headers: Sequence[tuple[str, bytes | None]], value: bytes | None, now: int) -> FastUsage | None:
    """Reads a record within the limit of size, or says None of one that is to be decoded in the published way; `now` is
    in microseconds since the year 2000. Where it raises, the published way is the right one too.
    """
    if value is None:
        return None
    try:
        return _read(headers, value, now)
    except (msgspec.MsgspecError, ContractError, KeyError, ValueError, RecursionError):
        return None


def _read(headers: Sequence[tuple[str, bytes | None]], value: bytes, now: int) -> FastUsage:
    named = dict(headers)
    if (
        len(named) != len(headers)
        or named["ce_specversion"] != b"1.0"
        or named["ce_type"] != _TYPE
        or named["content-type"] != _JSON
        or not _sources[named["ce_source"] or b""]
    ):
        raise ValueError("other attributes")
    time = _time(named["ce_time"] or b"")
    data = _decode(value)
    names = _known_names[
        data.mandate_id,
        data.user_id,
        data.provider,
        data.model,
        data.feature_code,
        data.feature_instance_id,
    ]
    if not 0 <= time <= now + _FUTURE_MAX or (b"\\" in value and b"\\u0000" in value):
        raise ValueError("a time or text for the models to refuse")
    counts = _sum_checked(data.tokens) if data.tokens is not None else ()
    size = len(value) - _normalise(data)
    canonical = _encode(data)
    if len(canonical) != size:
        parse_json(value)
    digest = _digest.copy()
    digest.update(canonical)
    # A named tuple made so takes half the time.
    return tuple.__new__(FastUsage, (_id(named["ce_id"] or b""), time, digest.digest(), data, names, counts))


def _id(text: bytes) -> bytes:
    """The 16 bytes of a UUID in its canonical form, in either case."""
    id_ = a2b_hex(text.translate(None, b"-"))
    if len(text) != 36 or len(id_) != 16 or text[8:24:5] != b"----":
        raise ValueError("another form of a UUID")
    return id_


def _time(text: bytes) -> int:
    """A time in UTC, with or without a fraction of up to six digits, in microseconds since the year 2000."""
    seconds: int = _seconds[text[:19]]
    fraction = text[19:-1] if text[-1:] == b"Z" else text[19:-6] if text[-6:] == b"+00:00" else b"?"
    if not fraction:
        return seconds
    digits = fraction[1:]
    if fraction[:1] != b"." or not digits.isdigit():
        raise ValueError("another form of a time")
    return seconds + int(digits) * _MICROS[len(digits)]


def _sum_checked(tokens: Tokens) -> tuple[int, ...]:
    """The counts of the kinds; no total that does not add up, and not of nothing, which may count as absent."""
    *_, total, _ = values = _values(tokens)
    counts = values[:-2]
    added = sum(counts)
    if not added or (total is not None and total != added):
        raise ValueError("tokens for the models to judge")
    return counts


def _normalise(data: UsageData) -> int:
    """Sorts the maps, takes the zeros off the ends of decimals, and gives how many characters those were. Checks what
    the types do not say."""
    shorter = 0
    if data.cost is not None:
        amount = data.cost.amount
        if data.cost.currency not in CURRENCIES:
            raise ValueError("a currency for the models to refuse")
        data.cost.amount = _without_zeros(amount)
        shorter = len(amount) - len(data.cost.amount)
    elif data.tokens is None and data.quantities is None:
        raise ValueError("neither cost nor tokens nor quantities")
    if data.quantities is not None:
        given = data.quantities
        data.quantities = {name: _without_zeros(given[name]) for name in sorted(given)}
        shorter += sum(map(len, given.values())) - sum(map(len, data.quantities.values()))
    if data.workflow_id is not None and not _IDENTIFIER(data.workflow_id):
        raise ValueError("a workflow for the models to refuse")
    if data.metadata is not None:
        data.metadata = dict(sorted(data.metadata.items()))
    if data.conditions is not None:
        data.conditions = dict(sorted(data.conditions.items()))
    return shorter


def _without_zeros(number: str) -> str:
    return number.rstrip("0").rstrip(".") if number[-1] == "0" and "." in number else number
