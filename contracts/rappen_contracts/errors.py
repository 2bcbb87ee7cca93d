"""The one error that reading a record can raise, and every code that it can have."""

from types import MappingProxyType
from typing import Final

__all__ = ["CODES", "ContractError"]

DETAIL_LENGTH_MAX = 1000

# The codes are a contract too: publishers and dashboards match on them, so a code is never renamed or used otherwise.
CODES: Final = MappingProxyType(
    {
        "EMPTY": "the record has no value",
        "RECORD_TOO_LARGE": "more than 256 KiB",
        "NOT_UTF8": "the value is not UTF-8",
        "NOT_JSON": "the value is not JSON (`NaN` and `Infinity` are not either)",
        "TOO_DEEP": "nested deeper than 200 levels",
        "DUPLICATE_KEY": "an object, anywhere in the record, has a key twice",
        "NOT_AN_OBJECT": "the data, or a structured event, is not a JSON object",
        "BAD_HEADER": "a required `ce_` header is not UTF-8",
        "DUPLICATE_HEADER": "a required `ce_` header occurs twice with different values",
        "MISSING_ATTRIBUTE": "specversion, id, source, type or time is missing",
        "BAD_ATTRIBUTE": "an attribute of a structured event, or its data_base64, is not a string",
        "BAD_SPECVERSION": "specversion is not `1.0`",
        "BAD_CONTENT_TYPE": "a content type that is not JSON (`*/json` and `*+json` are, with any parameters)",
        "BAD_SOURCE": "source is not a URI reference (RFC 3986) of 1 to 1024 characters",
        "DATA_TWICE": "a structured event has both data and data_base64",
        "BAD_BASE64": "data_base64 of a structured event is not base64",
        "UNKNOWN_TYPE": "no such event type",
        "UNKNOWN_VERSION": "the event is known, its major version is not",
        "BAD_UUID": "not a UUID (event id, hold id, ...)",
        "BAD_TIME": "not an RFC 3339 time; also `:60` and what does not exist or fit the years 1 to 9999 in UTC",
        "NAIVE_TIME": "a time without an offset",
        "TIME_IN_FUTURE": "the event's time is more than 5 minutes ahead",
        "TIME_OUT_OF_RANGE": "the event's time is before 2000, or another time is outside 2000 to 2199",
        "MISSING_FIELD": "a required field is missing, also one required only for this kind",
        "WRONG_TYPE": "a field has another JSON type (`true` or `5.0` for an integer, a number for text)",
        "NOT_A_STRING": "a decimal that is not a JSON string",
        "BAD_DECIMAL": "a decimal other than ASCII digits with optional sign, point (digits on both sides), exponent",
        "NOT_FINITE": "a decimal that is NaN or infinite",
        "TOO_MANY_DECIMALS": "a decimal with more than 24 decimals",
        "TOO_LARGE": "an integer over 2^53-1, an amount of a billion or more, another decimal of 10^14 or more",
        "NEGATIVE": "a count, an amount or a quantity below zero",
        "UNKNOWN_CURRENCY": "not a currency in use by ISO 4217, in three capital letters",
        "UNKNOWN_VALUE": "not one of the values that the field may have",
        "BAD_ID": "an id with a character outside `A-Z a-z 0-9 . _ : @ | -`",
        "BAD_TEXT": "text with NUL or a lone surrogate",
        "TOO_LONG": "text longer than its field allows",
        "TOO_SHORT": "empty text where some is required",
        "TOO_MANY_ENTRIES": "more entries than the field allows",
        "UNKNOWN_TOKEN_KIND": "tokens has a name that is no kind, such as `prompt_tokens`",
        "TOTAL_MISMATCH": "tokens.total is not the sum of the kinds, or a provider's numbers contradict each other",
        "NOT_AN_ARRAY": "a batch over HTTP is not a JSON array",
        "TOO_MANY_EVENTS": "a batch over HTTP has more than 1,000 events",
        "UNDECODABLE": "a fault of the reader itself; please report it",
    }
)


class ContractError(ValueError):
    """A record that is not what its contract says; `code` is stable, `detail` is for people and holds no payload.

    `event_id` is set for an element of a batch: the id as it was sent, where it has one, so that answers can name it.
    """

    event_id: str | None = None

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail[:DETAIL_LENGTH_MAX]
