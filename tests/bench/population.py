"""Who uses what in the bench: 1,000 members of 200 mandates, zipf 1.1, and usage events as publishers send them."""

import json
import random
import time
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any, Literal, TypeAlias
from uuid import UUID, uuid5

__all__ = [
    "FAULTY_OF",
    "HOT",
    "MANDATES",
    "MEMBERS",
    "POOL_MANDATES",
    "PROBES",
    "Fault",
    "Headers",
    "Member",
    "Record",
    "Usages",
    "usage_record",
]

_NAMESPACE = UUID("6f0c4b1e-52a7-4d33-9b1a-2f7c9f5c1d11")
MEMBER_COUNT = 1_000
MANDATE_COUNT = 200
PROBE_COUNT = 48
ZIPF_EXPONENT = 1.1

# Provider and model as in the price file of the simulator; all are priced by tokens.
_MODELS = (
    ("openai", "gpt-5.4"),
    ("openai", "gpt-5-mini"),
    ("openai", "gpt-4.1"),
    ("openai", "gpt-4o-mini"),
    ("anthropic", "claude-opus-4-5-20251101"),
    ("anthropic", "claude-sonnet-4-5-20250929"),
    ("anthropic", "claude-haiku-4-5-20251001"),
    ("google", "gemini-2.5-pro"),
    ("google", "gemini-2.5-flash"),
    ("mistral", "mistral-large-latest"),
    ("deepseek", "deepseek-v4-pro"),
    ("groq", "openai/gpt-oss-120b"),
)
_FEATURES = ("chat", "automation", "documents", "search")
# A member's habits: three models in two features, so six rows of statistics a day.
_MODELS_OF_MEMBER = 3
_FEATURES_OF_MEMBER = 2
# One event in eight comes with the provider's own cost instead of token counts.
_BY_COST_OF = 8
# One event in so many is at fault, in the runs that ask for it.
FAULTY_OF = 20
# Beyond what any balance may hold, by a currency whose unit costs a hundred thousand francs; or a row that the ledger
# refuses for what is in it.
Fault = Literal["too_large", "refused"]
DEAR_CURRENCY = "BHD"
REFUSED_WORKFLOW = "refused"


@dataclass(frozen=True, slots=True)
class Member:
    """A user in a mandate."""

    mandate_id: str
    user_id: str


# As wide as the producer's own type, because a list of a narrower one is another type.
Headers: TypeAlias = list[tuple[str, str | bytes | None]]
# Key, value and headers of one Kafka record in binary mode.
Record: TypeAlias = tuple[bytes, bytes, Headers]


def _id(*parts: object) -> str:
    return str(uuid5(_NAMESPACE, "/".join(map(str, parts))))


MANDATES = tuple(_id("mandate", number) for number in range(MANDATE_COUNT))
# The others have a budget for each member (PREPAY_USER); together they spread over 600 balances.
POOL_MANDATES = MANDATES[::2]
# In order of rank: neighbours are in different mandates.
MEMBERS = tuple(Member(MANDATES[rank % MANDATE_COUNT], _id("user", rank)) for rank in range(MEMBER_COUNT))
# One mandate with one pool, on which every event of the hot runs falls.
HOT = tuple(Member(_id("hot"), _id("hot user", number)) for number in range(5))
# Mandates whose balances are watched for latency.
PROBES = tuple(Member(_id("probe", number), _id("probe user", number)) for number in range(PROBE_COUNT))

_CUMULATED = tuple(accumulate(1 / (rank + 1) ** ZIPF_EXPONENT for rank in range(MEMBER_COUNT)))


class Usages:
    """A stream of usage events; the same seed gives the same members, models and quantities (ids are always new)."""

    def __init__(self, seed: int, *, hot: bool = False, fault: Fault | None = None) -> None:
        self._random = random.Random(seed)
        self._hot = hot
        self._fault = fault

    def member(self) -> Member:
        """Whose next event it is."""
        if self._hot:
            return self._random.choice(HOT)
        return MEMBERS[bisect(_CUMULATED, self._random.random() * _CUMULATED[-1])]

    def body(self, member: Member) -> dict[str, Any]:
        """The data of one AI call of a member."""
        choose = self._random
        start = int(member.user_id[:8], 16)
        provider, model = _MODELS[(start + choose.randrange(_MODELS_OF_MEMBER)) % len(_MODELS)]
        feature = _FEATURES[(start + choose.randrange(_FEATURES_OF_MEMBER)) % len(_FEATURES)]
        return {
            "mandate_id": member.mandate_id,
            "user_id": member.user_id,
            "provider": provider,
            "model": model,
            **self._amount(),
            "service_tier": "standard",
            "feature_code": feature,
            "feature_instance_id": f"{feature}-{member.mandate_id[:8]}",
            "workflow_id": f"workflow-{choose.getrandbits(32):08x}",
            "response_id": f"resp_{choose.getrandbits(96):024x}",
            "processing_time_ms": choose.randrange(300, 20_000),
            "bytes_sent": choose.randrange(500, 40_000),
            "bytes_received": choose.randrange(500, 20_000),
            "error_count": 0,
            "description": f"{feature} with {model}",
        }

    def records(self, count: int) -> Iterator[Record]:
        """So many events, each with its own id and the time at which it was made."""
        for number in range(count):
            body = self.body(self.member())
            if self._fault is not None and number % FAULTY_OF == FAULTY_OF - 1:
                body |= _FAULTS[self._fault]
            yield usage_record(body)

    def _amount(self) -> dict[str, Any]:
        choose = self._random
        if choose.randrange(_BY_COST_OF) == 0:
            return {"cost": {"amount": f"0.{choose.randrange(1, 10**8):010}", "currency": "USD"}}
        counts = {
            "input": choose.randrange(20, 6_000),
            "cache_read": choose.randrange(0, 12_000),
            "output": choose.randrange(10, 2_000),
        }
        return {"tokens": {**counts, "total": sum(counts.values())}}


_FAULTS: dict[Fault, dict[str, Any]] = {
    "too_large": {"cost": {"amount": "999999999", "currency": DEAR_CURRENCY}},
    "refused": {"workflow_id": REFUSED_WORKFLOW},
}


def usage_record(body: dict[str, Any]) -> Record:
    """The Kafka record of one usage event that happens now."""
    return (
        body["mandate_id"].encode(),
        json.dumps(body, separators=(",", ":")).encode(),
        [
            ("ce_specversion", b"1.0"),
            ("ce_id", str(_uuid7()).encode()),
            ("ce_source", b"/bench/publisher"),
            ("ce_type", b"ch.rappen.usage.recorded.v1"),
            ("ce_time", datetime.now(UTC).isoformat().encode()),
            ("content-type", b"application/json"),
        ],
    )


def _uuid7() -> UUID:
    # Never from a seeded source: two streams of one seed must not share an id.
    milliseconds = time.time_ns() // 1_000_000
    bits = random.getrandbits(74)
    return UUID(int=(milliseconds << 80) | (7 << 76) | ((bits >> 62) << 64) | (2 << 62) | (bits & (1 << 62) - 1))
