"""Who uses what in the bench: 1,000 members of 200 mandates, zipf 1.1, and the stream of their usage events.

Which events are repeats, unpriced, unusual or at fault follows from their place in the stream alone, so what has to
become of so many events is known before the first is sent.
"""

import random
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, NamedTuple, TypeAlias
from uuid import UUID, uuid5

from tests.bench.publishers import PUBLISHED_ONLY, STYLES, UNUSUAL, Record

__all__ = [
    "CROWD",
    "HOT",
    "MANDATES",
    "MEMBERS",
    "MODELS",
    "POOL_MANDATES",
    "PROBES",
    "Expected",
    "Fault",
    "Member",
    "Twentieth",
    "Usages",
    "holds_named",
    "instances_of",
]

_NAMESPACE = UUID("6f0c4b1e-52a7-4d33-9b1a-2f7c9f5c1d11")
MEMBER_COUNT = 1_000
MANDATE_COUNT = 200
PROBE_COUNT = 48
CROWD_COUNT = 10_000
ZIPF_EXPONENT = 1.1

# Provider and model as in the price file of the simulator; all are priced by tokens.
MODELS = (
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
# Of so many events one is sent again, one is of a model without a price, and one is written in an unusual way.
_PERIOD = 50
_REPEAT, _UNPRICED, _UNUSUAL = 10, 26, 42
# A repeat is of one of so many events before: some in the same batch, some in one that is committed already.
_REPEATED_OF = 2_000
_WITHOUT_PRICE = {"provider": "openai", "model": "gpt-without-a-price"}
# The last of so many is special, in the runs that ask for it; it is never one of the three above.
_TWENTY = 20
# Beyond what any balance may hold, by a currency whose unit costs a hundred thousand francs; or a row that the ledger
# refuses for what is in it.
Fault: TypeAlias = Literal["too_large", "refused"]
# Or written in a way that only the decoding of the published package takes.
Twentieth: TypeAlias = Fault | Literal["published"]
DEAR_CURRENCY = "BHD"
REFUSED_WORKFLOW = "refused"
_FAULTS: dict[Twentieth, dict[str, Any]] = {
    "too_large": {"cost": {"amount": "999999999", "currency": DEAR_CURRENCY}},
    "refused": {"workflow_id": REFUSED_WORKFLOW},
}


@dataclass(frozen=True, slots=True)
class Member:
    """A user in a mandate."""

    mandate_id: str
    user_id: str


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
# One mandate with so many members, whose billing model is switched.
CROWD = tuple(Member(_id("crowd"), _id("crowd user", number)) for number in range(CROWD_COUNT))

_CUMULATED = tuple(accumulate(1 / (rank + 1) ** ZIPF_EXPONENT for rank in range(MEMBER_COUNT)))
_PERCENTS = tuple(accumulate(style.percent for style in STYLES))


def _instance(feature: str, mandate_id: str) -> str:
    return f"{feature}-{mandate_id[:8]}"


def instances_of(mandate_id: str) -> list[str]:
    """The feature instances of a mandate."""
    return [_instance(feature, mandate_id) for feature in _FEATURES]


class Expected(NamedTuple):
    """What has to become of so many events; repeats have no effect."""

    charged: int
    parked: int
    refused: int
    repeats: int

    @classmethod
    def of(cls, count: int, twentieth: Twentieth | None = None) -> "Expected":
        """Of the first so many events of a stream."""
        parked, repeats = len(range(_UNPRICED, count, _PERIOD)), len(range(_REPEAT, count, _PERIOD))
        refused = count // _TWENTY if twentieth in _FAULTS else 0
        return cls(count - parked - repeats - refused, parked, refused, repeats)

    def sent(self, charged: int) -> int:
        """About how many of the events were done with when so many were charged; all when all were."""
        return charged * sum(self) // self.charged


def _hold_id(seed: int, number: int) -> UUID:
    return uuid5(_NAMESPACE, f"hold/{seed}/{number}")


def holds_named(seed: int, count: int) -> Iterator[tuple[Member, UUID]]:
    """The holds, each with its member, that the first so many events of a stream name, of which each settles its own;
    repeats name those of their events."""
    usages = Usages(seed, settling=True)
    for number in range(count):
        if number % _PERIOD != _REPEAT:
            yield usages.member(), _hold_id(seed, number)


class Usages:
    """A stream of usage events; the same seed gives the same members, models and quantities (ids are always new). Where
    it settles holds, each event names one of `holds_named`."""

    def __init__(
        self, seed: int, *, hot: bool = False, twentieth: Twentieth | None = None, settling: bool = False
    ) -> None:
        self._random = random.Random(seed)
        # Apart, so that the members are known without making the events.
        self._members = random.Random(f"members {seed}") if settling else self._random
        self._holds = seed if settling else None
        self._hot = hot
        self._twentieth = twentieth
        self._recent: list[Record] = []

    def member(self) -> Member:
        """Whose next event it is."""
        if self._hot:
            return self._members.choice(HOT)
        return MEMBERS[bisect(_CUMULATED, self._members.random() * _CUMULATED[-1])]

    def body(self, member: Member) -> dict[str, Any]:
        """The data of one AI call of a member."""
        choose = self._random
        start = int(member.user_id[:8], 16)
        provider, model = MODELS[(start + choose.randrange(_MODELS_OF_MEMBER)) % len(MODELS)]
        feature = _FEATURES[(start + choose.randrange(_FEATURES_OF_MEMBER)) % len(_FEATURES)]
        return {
            "mandate_id": member.mandate_id,
            "user_id": member.user_id,
            "provider": provider,
            "model": model,
            **self._amount(),
            "service_tier": "standard",
            "feature_code": feature,
            "feature_instance_id": _instance(feature, member.mandate_id),
            "workflow_id": f"workflow-{choose.getrandbits(32):08x}",
            "response_id": f"resp_{choose.getrandbits(96):024x}",
            "processing_time_ms": choose.randrange(300, 20_000),
            "bytes_sent": choose.randrange(500, 40_000),
            "bytes_received": choose.randrange(500, 20_000),
            "error_count": 0,
            "description": f"{feature} with {model}",
        }

    def record(self, member: Member) -> Record:
        """One event of a member that is charged, in the style of one of the publishers."""
        return self._styled(self.body(member))

    def records(self, count: int) -> Iterator[Record]:
        """So many events, each but repeats with its own id and the time at which it was made."""
        for number in range(count):
            if number % _PERIOD == _REPEAT:
                yield self._random.choice(self._recent)
            elif self._twentieth is not None and number % _TWENTY == _TWENTY - 1:
                yield self._special(self.body(self.member()), self._twentieth)
            else:
                body = self.body(self.member())
                if self._holds is not None:
                    body["hold_id"] = str(_hold_id(self._holds, number))
                record = self._ordinary(number % _PERIOD, body)
                self._remember(number, record)
                yield record

    def _ordinary(self, place: int, body: dict[str, Any]) -> Record:
        if place == _UNUSUAL:
            return self._random.choice(UNUSUAL)(body, self._random)
        if place == _UNPRICED:
            # With the provider's own cost it would not need a price.
            body.pop("cost", None)
            return self._styled(body | _WITHOUT_PRICE | {"tokens": self._tokens()})
        return self._styled(body)

    def _special(self, body: dict[str, Any], twentieth: Twentieth) -> Record:
        if twentieth == "published":
            return self._random.choice(PUBLISHED_ONLY)(body, self._random)
        return self._styled(body | _FAULTS[twentieth])

    def _styled(self, body: dict[str, Any]) -> Record:
        return STYLES[bisect(_PERCENTS, self._random.random() * 100)].write(body, self._random)

    def _remember(self, number: int, record: Record) -> None:
        if len(self._recent) < _REPEATED_OF:
            self._recent.append(record)
        else:
            self._recent[number % _REPEATED_OF] = record

    def _amount(self) -> dict[str, Any]:
        choose = self._random
        if choose.randrange(_BY_COST_OF) == 0:
            return {"cost": {"amount": f"0.{choose.randrange(1, 10**8):010}", "currency": "USD"}}
        return {"tokens": self._tokens()}

    def _tokens(self) -> dict[str, int]:
        choose = self._random
        counts = {
            "input": choose.randrange(20, 6_000),
            "cache_read": choose.randrange(0, 12_000),
            "output": choose.randrange(10, 2_000),
        }
        return counts | {"total": sum(counts.values())}
