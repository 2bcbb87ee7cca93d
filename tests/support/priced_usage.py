"""Any tariff, and usage that may have a price in it: both drawn at random, of every form that prices can have."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from uuid import UUID

from rappen_contracts import ContractError, decode
from rappen_contracts.usage.v1 import TOKEN_KINDS
from services.billing.pricing import PriceBook, PriceError, PriceList, PriceVersion, Rate, RateTable
from services.billing.pricing.clock import ALL_DAYS, DAY_MINUTES, Window
from services.billing.pricing.rating import Tariff
from services.billing.pricing.version import Factor
from tests.support.events import RawRecord, usage_record
from tests.support.usage_shapes import usual_body

__all__ = [
    "NOW",
    "any_number",
    "any_rates",
    "any_record",
    "any_tariff",
    "any_versions",
    "fitting_record",
    "is_accepted",
    "version_with_windows",
]

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
STARTS = [NOW - timedelta(days=days) for days in (900, 40, 1)]
CURRENCIES = ("USD", "EUR")
# Half hours from UTC, clock changes by half an hour and at midnight, and a day that there never was.
ZONES = ("UTC", "Europe/Zurich", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia")
CLOCK_CHANGES = (
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2025, 10, 26, 1, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC),
    datetime(2026, 3, 8, 5, 30, tzinfo=UTC),
)
MODELS = [("anthropic", "claude"), ("anthropic", "Ä")]


def any_number(random: Random, places: Sequence[int] = (4, 12, 24)) -> Decimal:
    """A decimal that is not negative, with any of a few numbers of places."""
    return Decimal(random.randrange(10 ** random.choice([1, 4, 7]))).scaleb(-random.choice(places))


def _list(random: Random) -> PriceList:
    kinds = random.sample([*TOKEN_KINDS, "images", "seconds"], random.choice([1, 4, 15]))
    return PriceList(
        {kind: any_number(random) for kind in kinds},
        random.choice([("standard",), ("standard",), ("batch",), ("batch", "flex"), ("*",)]),
        *random.choice([(None, None), (None, None), (None, 1000), (1000, None), (0, 200_000)]),
        random.choice([{}, {}, {}, {"region": "eu"}, {"region": "*"}, {"speed": "fast"}]),
        random.choice([(), (), (), (), tuple(_window(random) for _ in range(random.choice([1, 1, 3])))]),
    )


def _window(random: Random) -> Window:
    minutes = [0, 9 * 60, 9 * 60 + 1, 16 * 60 + 30, 18 * 60, random.randrange(DAY_MINUTES)]
    weekdays = sorted(random.sample(ALL_DAYS, random.choice([1, 5, 7, 7])))
    return Window(random.choice(minutes), random.choice([*minutes, DAY_MINUTES]), tuple(weekdays), random.choice(ZONES))


def _any_time(random: Random) -> datetime:
    """Now, before and after a day's border, on the nights of a clock change, or any time."""
    before = [0, 1, 40_000, 86_400, 86_401, 10_000_000, random.randrange(10**8), random.randrange(10**8)]
    at = random.choice([NOW - timedelta(seconds=random.choice(before)), random.choice(CLOCK_CHANGES)])
    around = timedelta(minutes=random.randrange(-200, 200)) if at in CLOCK_CHANGES else timedelta()
    return at + around - timedelta(microseconds=random.choice([0, 1, 7]))


def _factor(random: Random) -> Factor:
    factor = any_number(random, (3, 6))
    kinds = [
        Factor(factor, random.choice(["batch", "flex"])),
        Factor(factor, when={"region": "us"}),
        Factor(factor, clock=(_window(random),)),
    ]
    return random.choice(kinds)


def any_versions(
    random: Random, models: Sequence[tuple[str, str]] = MODELS, currencies: Sequence[str] = CURRENCIES
) -> list[PriceVersion]:
    """Any prices that can be in force, in the order in which they are recorded, with the numbers of that as ids."""
    versions = []
    for number in range(random.randrange(1, 5)):
        try:
            versions.append(
                PriceVersion(
                    *random.choice(models),
                    random.choice([*currencies, "CHF"]),
                    random.choice(STARTS),
                    tuple(_list(random) for _ in range(random.randrange(1, 4))),
                    tuple(_factor(random) for _ in range(random.choice([0, 0, 1, 2]))),
                    id=str(number),
                )
            )
        except PriceError:
            continue
    return versions


def version_with_windows(random: Random) -> PriceVersion:
    """Prices that only the time and the length of the prompt decide on."""
    kinds = ["input", "output", *random.sample(["cache_read", "images"], random.randrange(3))]

    def prices() -> dict[str, Decimal]:
        return {kind: any_number(random, (4, 12)) for kind in kinds}

    windows = [(), *(tuple(_window(random) for _ in range(random.choice([1, 1, 3]))) for _ in range(2))]
    lengths = random.choice([[(None, None)], [(None, 1_000), (1_000, None)]])
    factor = Factor(Decimal(random.choice(["0.5", "1.375", "0"])), clock=(_window(random),))
    return PriceVersion(
        *random.choice(MODELS),
        random.choice(["USD", "CHF"]),
        STARTS[0],
        tuple(
            PriceList(prices(), above=above, up_to=up_to, clock=each) for each in windows for above, up_to in lengths
        ),
        random.choice([(), (factor,)]),
        id="0",
    )


def any_rates(random: Random) -> list[Rate]:
    """Rates, in the order in which they are recorded, with the numbers of that as ids."""
    return [
        Rate(random.choice(CURRENCIES), random.choice(STARTS), any_number(random) + Decimal("0.01"), str(number))
        for number in range(random.randrange(5))
    ]


def any_tariff(random: Random) -> Tariff:
    """Any prices of several versions, and rates."""
    return Tariff(1, PriceBook(any_versions(random)), RateTable(any_rates(random)))


def any_record(random: Random, models: Sequence[tuple[str, str]] = MODELS) -> RawRecord:
    """Usage of a model that may have a price, at some time; not all of it is accepted."""
    body = usual_body(random)
    body["provider"], body["model"] = random.choice(models)
    if random.random() < 0.3:
        body["conditions"] = random.choice([{"region": "eu"}, {"region": "us"}, {"speed": "fast"}, {"x": "y"}])
    at = _any_time(random)
    cost = {"cost": None} if "cost" not in body else {}
    mandate_id, user_id = body.pop("mandate_id"), body.pop("user_id")
    return usage_record(mandate_id, user_id, event_id=UUID(int=random.getrandbits(128)), at=at, **cost | body)


def fitting_record(random: Random, version: PriceVersion) -> RawRecord:
    """Usage of what a version has prices for, or nearly so, so that most of it is priced."""
    priced = sorted({name for entry in version.lists for name in entry.prices})
    kinds = [name for name in priced if name in TOKEN_KINDS]
    borrowing = random.choice([[], [], ["reasoning"], ["cache_read", "tool_input"], ["image_input"]])
    chosen = {*random.sample(kinds, min(len(kinds), random.randrange(1, 4))), *borrowing}
    units = [name for name in priced if name not in TOKEN_KINDS]
    tiers = sorted({tier for entry in version.lists for tier in entry.tiers} | {"standard", "batch", "flex"} - {"*"})
    return usage_record(
        "m",
        event_id=UUID(int=random.getrandbits(128)),
        at=max(version.valid_from, _any_time(random)),
        cost=None,
        provider=version.provider,
        model=version.model,
        tokens={
            # In an order of their own: that of a set is another one in each process, and the usage with it.
            kind: random.choice([1, random.randrange(1, 3_000), random.randrange(1, 10**6)])
            for kind in sorted(chosen)
        }
        or None,
        quantities={name: str(any_number(random, (0, 3)) + 1) for name in units} or None,
        service_tier=random.choice([None, *tiers]),
        conditions=random.choice([None, {"region": "eu"}, {"region": "us"}, {"region": "x", "speed": "fast"}]),
    )


def is_accepted(record: RawRecord) -> bool:
    """Whether the contract allows the event."""
    try:
        decode(record.headers, record.value, now=NOW)
    except ContractError:
        return False
    return True
