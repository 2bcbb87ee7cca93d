"""What AI calls consume: models with the tokens and other units that a call of theirs plausibly has.

The counts are log-normal around a median, which is how the lengths of real prompts and answers are spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any, Protocol

from rappen_contracts.types import NonNegativeMoney
from rappen_contracts.usage.v1 import Tokens

__all__ = ["CALLS", "NEW_MODEL", "Call"]

# What a call consumed: fields of `UsageRecorded`.
Use = dict[str, Any]

_PROMPT_SPREAD = 0.8
_ANSWER_SPREAD = 0.7


class Call(Protocol):
    """A kind of call to a model."""

    @property
    def provider(self) -> str:
        """Who serves the model."""

    @property
    def model(self) -> str:
        """The provider's name of the model."""

    def use(self, rng: Random) -> Use:
        """What one such call consumes."""


@dataclass(frozen=True, slots=True)
class TextCall:
    """A prompt and an answer; medians in tokens, chances between 0 and 1."""

    provider: str
    model: str
    prompt: int
    answer: int
    cached: float = 0.0
    writes_cache: bool = False
    thinks: float = 0.0
    searches: float = 0.0
    tier: str | None = None
    region: str | None = None

    def use(self, rng: Random) -> Use:
        """Tokens of disjoint kinds, and the web searches that some providers bill beside them."""
        prompt = _count(rng, self.prompt, _PROMPT_SPREAD)
        kept = int(prompt * rng.uniform(0.5, 0.9)) if rng.random() < self.cached else 0
        kinds = {
            "input": prompt - kept,
            "cache_read": kept,
            # The first call to cache a prompt pays for writing the part that changed.
            "cache_write": int(prompt * 0.3) if self.writes_cache and not kept and rng.random() < 0.3 else 0,
            "output": _count(rng, self.answer, _ANSWER_SPREAD),
            "reasoning": _count(rng, self.answer, 1.0) if rng.random() < self.thinks else 0,
        }
        use: Use = {"tokens": _tokens(kinds), "processing_time_ms": 300 + kinds["output"] * rng.randint(8, 25)}
        if rng.random() < self.searches:
            use["quantities"] = {"web_searches": Decimal(rng.randint(1, 3))}
        if self.tier is not None:
            use["service_tier"] = self.tier
        if self.region is not None:
            use["conditions"] = {"region": self.region}
        return use


@dataclass(frozen=True, slots=True)
class ImageCall:
    """A picture out of a short prompt; a picture has one of a few sizes, each a fixed number of tokens."""

    provider: str
    model: str
    sizes: tuple[int, ...]

    def use(self, rng: Random) -> Use:
        """The prompt, sometimes a picture to work from, and the new picture."""
        kinds = {
            "input": _count(rng, 90, 0.6),
            "image_input": 323 if rng.random() < 0.25 else 0,
            "image_output": rng.choice(self.sizes),
        }
        return {"tokens": _tokens(kinds), "processing_time_ms": rng.randint(6_000, 40_000)}


@dataclass(frozen=True, slots=True)
class SpeechCall:
    """A recording that is written down and billed by the second; the median is in seconds."""

    provider: str
    model: str
    seconds: int

    def use(self, rng: Random) -> Use:
        """The length of the recording to a tenth of a second."""
        length = Decimal(_count(rng, self.seconds * 10, 0.9)) / 10
        return {"quantities": {"seconds": length}, "processing_time_ms": int(length * 60)}


@dataclass(frozen=True, slots=True)
class ListeningCall:
    """A recording that a multimodal model listens to, billed by its tokens; the median is in seconds."""

    provider: str
    model: str
    seconds: int
    tokens_per_second: int = 32

    def use(self, rng: Random) -> Use:
        """Audio in, text out."""
        length = _count(rng, self.seconds, 0.9)
        kinds = {"input": 60, "audio_input": length * self.tokens_per_second, "output": length * 3}
        return {"tokens": _tokens(kinds), "processing_time_ms": length * 90}


@dataclass(frozen=True, slots=True)
class BrokeredCall:
    """A call through a broker that names its price itself, in USD, with all the digits it computes with."""

    provider: str
    model: str
    prompt: int
    answer: int
    prompt_price: Decimal
    answer_price: Decimal

    def use(self, rng: Random) -> Use:
        """What the broker charged, and the tokens for the record."""
        prompt, answer = _count(rng, self.prompt, _PROMPT_SPREAD), _count(rng, self.answer, _ANSWER_SPREAD)
        cost = prompt * self.prompt_price + answer * self.answer_price
        return {
            "cost": NonNegativeMoney(amount=cost, currency="USD"),
            "tokens": _tokens({"input": prompt, "output": answer}),
            "processing_time_ms": 300 + answer * rng.randint(5, 40),
        }


def _count(rng: Random, median: int, spread: float) -> int:
    """A count around the median, never so far off that one call would empty a budget."""
    return max(1, min(int(median * rng.lognormvariate(0, spread)), median * 8))


def _tokens(kinds: Mapping[str, int]) -> Tokens:
    total = sum(kinds.values())
    return Tokens(**kinds, total=total, provider_total=total)


# How often each call happens beside the others of its feature.
CALLS: Mapping[str, Sequence[tuple[int, Call]]] = {
    "chat": (
        (7, TextCall("openai", "gpt-5.4", 1_400, 320, cached=0.6, thinks=0.3)),
        (3, TextCall("openai", "gpt-5.4", 1_400, 320, cached=0.6, region="eu")),
        (14, TextCall("openai", "gpt-5-mini", 1_100, 300, cached=0.5, thinks=0.4, searches=0.06)),
        (6, TextCall("openai", "gpt-4o-mini", 900, 260, cached=0.4)),
        (10, TextCall("anthropic", "claude-sonnet-4-5-20250929", 1_500, 380, cached=0.6, writes_cache=True)),
        (8, TextCall("anthropic", "claude-haiku-4-5-20251001", 1_100, 300, cached=0.5, searches=0.04)),
        (12, TextCall("google", "gemini-2.5-flash", 1_300, 330, cached=0.4, thinks=0.5, searches=0.03)),
        (7, TextCall("mistral", "mistral-medium-latest", 1_000, 300, cached=0.2)),
        (9, TextCall("groq", "openai/gpt-oss-120b", 900, 350, thinks=0.3)),
        (5, TextCall("deepseek", "deepseek-v4-flash", 1_200, 340, cached=0.5)),
        (
            4,
            BrokeredCall(
                "openrouter",
                "meta-llama/llama-3.3-70b-instruct",
                1_000,
                300,
                Decimal("0.00000013"),
                Decimal("0.00000038125"),
            ),
        ),
        (
            3,
            BrokeredCall("openrouter", "qwen/qwen3-235b-a22b", 1_200, 320, Decimal("1.3E-7"), Decimal("6.00000001E-7")),
        ),
    ),
    "automation": (
        (14, TextCall("openai", "text-embedding-3-small", 600, 1)),
        (10, TextCall("openai", "gpt-5-mini", 2_600, 180, cached=0.7)),
        (8, TextCall("openai", "gpt-5-mini", 3_500, 240, tier="batch")),
        (8, TextCall("anthropic", "claude-haiku-4-5-20251001", 2_800, 260, cached=0.7, writes_cache=True)),
        (4, TextCall("anthropic", "claude-haiku-4-5-20251001", 4_000, 300, tier="batch")),
        (3, TextCall("anthropic", "claude-opus-4-5-20251101", 1_800, 400, cached=0.7, writes_cache=True)),
        (6, TextCall("google", "gemini-2.5-flash-lite", 3_200, 200, cached=0.5)),
        (2, TextCall("google", "gemini-2.5-pro", 2_400, 420, cached=0.4, thinks=0.7)),
        (8, TextCall("mistral", "codestral-latest", 2_000, 350, cached=0.2)),
        (6, TextCall("mistral", "mistral-small-latest", 1_500, 200)),
        (5, TextCall("deepseek", "deepseek-v4-pro", 2_200, 380, cached=0.6, thinks=0.4)),
        (6, TextCall("groq", "openai/gpt-oss-20b", 1_400, 220)),
    ),
    "image-studio": (
        (3, ImageCall("openai", "gpt-image-1", (272, 408, 1_056, 1_584))),
        (5, TextCall("openai", "gpt-4o", 500, 120)),
    ),
    "transcription": (
        (3, SpeechCall("openai", "whisper-1", 45)),
        (4, SpeechCall("groq", "whisper-large-v3", 90)),
        (3, ListeningCall("google", "gemini-2.5-flash", 60)),
    ),
}

# Released this morning, and not in the price book yet.
NEW_MODEL: Call = TextCall("mistral", "mistral-next-preview", 1_200, 300)
