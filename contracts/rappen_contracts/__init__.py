"""The events of the Rappen billing platform: models, CloudEvents codec, topics."""

from rappen_contracts.codec import (
    Event,
    Record,
    decode,
    decode_batch_text,
    decode_structured,
    encode,
    encode_structured,
)
from rappen_contracts.errors import CODES, ContractError
from rappen_contracts.registry import EVENTS, SOURCES, TOPICS

__all__ = [
    "CODES",
    "EVENTS",
    "SOURCES",
    "TOPICS",
    "ContractError",
    "Event",
    "Record",
    "decode",
    "decode_batch_text",
    "decode_structured",
    "encode",
    "encode_structured",
]
