"""Cohere: chat, embed, rerank, classify.

What is billed (types of the `cohere` package 7.3, docs.cohere.com on pricing):

- `billed_units` is what is charged. `tokens` counts what the model was given, with the provider's own preamble, and is
  not charged; `cached_tokens` is a part of that and has no price. Neither is read.
- `image_tokens` of an embedding stand beside its text. Where a total `input_tokens` is text and images together, as
  `text_tokens` tells, it is not counted again.
- `search_units` of rerank are the price list's queries.
- The API's schema says `number`, so that the SDK has 12.0 for 12; a fraction is refused.
"""

from __future__ import annotations

from typing import Unpack

from rappen_contracts.adapters.building import Call, EventFields, Tokens, build
from rappen_contracts.adapters.reading import Part, latest
from rappen_contracts.errors import ContractError
from rappen_contracts.usage.v1 import UsageRecorded

__all__ = ["billed"]

_PROVIDER = "cohere"
_TOKENS = ("input_tokens", "text_tokens", "image_tokens", "output_tokens")
_UNITS = {"search_units": "queries", "classifications": "classifications", "images": "images", "pages": "pages"}


def billed(answer: object, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of any endpoint: `usage` of version 2's chat, `meta` of the others, or `delta.usage` of a
    stream's last event. The answer does not name its model."""
    part = latest(answer, "usage", "meta", "delta")
    holder = part.part("delta") if part.has("delta") else part
    usage = holder.part("usage", "meta")
    units = (usage if usage.present else holder).part("billed_units")
    if not units.has(*_TOKENS, *_UNITS):
        raise ContractError("MISSING_FIELD", f"{usage.path('billed_units')}: is required")
    quantities = {ours: units.whole(theirs) for theirs, ours in _UNITS.items()}
    call = Call(_tokens(units), quantities=quantities)
    return build(_PROVIDER, [call], fields, response_id=part.text("id", "response_id", "generation_id"))


def _tokens(units: Part) -> Tokens:
    total, text, images = (units.whole(name) for name in _TOKENS[:3])
    told = units.has("text_tokens")
    if told and total not in (0, text, text + images):
        raise ContractError(
            "TOTAL_MISMATCH", f"{units.path('input_tokens')}: is not the text and images that are named"
        )
    return Tokens({"input": text if told else total, "image_input": images, "output": units.whole("output_tokens")})
