"""The figures as the page docs/benchmarks.md: ratios first, then absolutes, CPU by process, the machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from tests.bench.cpu import CpuUse
from tests.bench.figures import Part, latency_text, met
from tests.bench.gateway import RATE_PER_S, GatewayChecked
from tests.bench.large_report import HOW_LARGE, large_rows
from tests.bench.lists import Exported, Listed
from tests.bench.measure import MEMORY_MB
from tests.bench.month_invoice import Invoiced
from tests.bench.naive import NaiveOutcome
from tests.bench.publishers import STYLES
from tests.bench.scenarios import Charged, Checked, Held, Probed
from tests.bench.year_statistics import Shown

__all__ = ["Results", "absolutes", "render"]

# What V1 to V9 demand, each a row of docs/benchmarks.md.
LIVE_LEAST, LIVE_AIM = 15_000, 30_000
NAIVE_RATIO = 25
HOT_RATIO = 0.9
FAULTY_RATIO = 0.5
PUBLISHED_RATIO = 0.85
SETTLING_RATIO = 0.5
CHECK_P99_MS = 5.0
HOLD_P99_MS = 15.0
HOLDS_LEAST = 500
GATEWAY_LEAST, GATEWAY_AIM = 1_500, 2_500
GATEWAY_P99_MS = 10.0
LATENCY_P99_MS = 250.0
# Above this share of the machine used by others, a page says that its absolutes are too low.
OTHERS_PERCENT = 5.0


@dataclass
class Results:
    """What was measured; what was not asked for is missing."""

    live: list[Charged] = field(default_factory=list)
    backlog: list[Charged] = field(default_factory=list)
    backlog_single: list[Charged] = field(default_factory=list)
    naive: list[NaiveOutcome] = field(default_factory=list)
    naive_pair: list[NaiveOutcome] = field(default_factory=list)
    hot: list[Charged] = field(default_factory=list)
    hot_shared: list[Charged] = field(default_factory=list)
    beside_faulty: list[Charged] = field(default_factory=list)
    too_large: list[Charged] = field(default_factory=list)
    refused: list[Charged] = field(default_factory=list)
    beside_published: list[Charged] = field(default_factory=list)
    published: list[Charged] = field(default_factory=list)
    beside_settling: list[Charged] = field(default_factory=list)
    settling: list[Charged] = field(default_factory=list)
    checks: Checked | None = None
    checks_charging: Checked | None = None
    holds: Held | None = None
    gateway_saturated: GatewayChecked | None = None
    gateway_at_rate: GatewayChecked | None = None
    probed: Probed | None = None
    memory: Charged | None = None
    lists: Listed | None = None
    exports: Mapping[str, Exported] = field(default_factory=dict)
    statistics: Shown | None = None
    invoice: Invoiced | None = None
    # What newer runs measured, each of which knows its rows.
    parts: list[Part] = field(default_factory=list)

    def uses(self) -> list[tuple[str, CpuUse, int]]:
        """CPU by run, with the number of its events, or of its checks."""
        found: list[tuple[str, CpuUse, int]] = []
        for name, runs in (
            ("live, 2 workers", self.live),
            ("backlog, 2 workers", self.backlog),
            ("backlog, 1 worker", self.backlog_single),
            ("one hot account, keyed", self.hot),
            ("one hot account, both workers", self.hot_shared),
            ("backlog, 5 % too large", self.too_large),
            ("backlog, 5 % refused by the ledger", self.refused),
            ("live, by turns with the next", self.beside_published),
            ("live, 5 % the published way", self.published),
            ("live, by turns with the next, again", self.beside_settling),
            ("live, each event settles a hold", self.settling),
            ("large backlog", [self.memory] if self.memory else []),
        ):
            if runs:
                run = _middle(runs)
                found.append((name, run.cpu, run.rate.events))
        if self.probed is not None:
            found.append(("steady, half of live", self.probed.cpu, self.probed.events))
        if self.checks is not None:
            found.append(("checks", self.checks.cpu, self.checks.latency.count))
        if self.holds is not None:
            found.append(("holds with their captures", self.holds.cpu, self.holds.captured.count))
        for what, read in (("lists upon a large ledger", self.lists), ("statistics upon it", self.statistics)):
            if read is not None:
                found.append((what, read.cpu, read.requests))
        for name, checked in (
            ("checks through the gateway, saturated", self.gateway_saturated),
            (f"checks through the gateway at {RATE_PER_S:.0f}/s", self.gateway_at_rate),
        ):
            if checked is not None:
                found.append((name, checked.cpu, checked.asked))
        return found + [use for part in self.parts for use in part.uses()]


def _middle(runs: Sequence[Charged]) -> Charged:
    """The run with the median rate."""
    return sorted(runs, key=lambda run: run.rate.per_second)[(len(runs) - 1) // 2]


def _rate(runs: Sequence[Charged]) -> float:
    return _middle(runs).rate.per_second


def _naive_rate(runs: Sequence[NaiveOutcome]) -> float:
    return median(run.per_second for run in runs)


def render(results: Results, machine: Mapping[str, str], *, at: datetime, command: str) -> str:
    """The whole page."""
    lines = [
        "# Benchmarks",
        "",
        f"Written by `{command}` on {at:%Y-%m-%d %H:%M} UTC: a real Kafka, a real PostgreSQL, durable commits, and the",
        "load on the same cores. Each run ended with every event charged or parked once, repeats without effect, and",
        "nothing found by the audit.",
        "",
        *_others(results),
        "## Ratios",
        "",
        *_table(("row", "what", "target", "measured", ""), _ratios(results)),
        "",
        "## Absolutes",
        "",
        *_table(("row", "what", "target", "measured", ""), absolutes(results)),
        "",
        "## CPU microseconds an event, check, hold or activation, by process",
        "",
        *_cpu(results),
        "",
        "## The machine",
        "",
        *_table(("", ""), list(machine.items())),
        "",
        "## How it is measured",
        "",
        _HOW,
    ]
    return "\n".join(lines)


def _styles() -> str:
    return ", ".join(f"{style.name} {style.percent}" for style in STYLES)


_HOW = f"""\
- Events are CloudEvents of about 560 bytes, lz4, 12 partitions keyed by mandate; 1,000 members of 200 mandates by zipf
  1.1, half of the mandates with one pool and half with a budget for each member; 12 models of 7 providers, 4 features;
  seven of eight events are priced by tokens from the price book, the rest come with a cost in USD. Every account has a
  grant, which its charges spend.
- They are written as different publishers write them. Of a hundred, two are a repeat of one of the last 2,000, two are
  of a model without a price and so parked, and two are unusual: other spellings of ids and times, more, fewer and other
  headers, structured mode, tiers, conditions, texts that look like JSON. The other 94 are of five styles, by weight:
  {_styles()}.
- A rate is events charged between the first and the last commit, seen from outside every 50 ms; those parked or sent
  again beside them are not counted. Live: the producer runs throughout, at most 20,000 events ahead of the ledger.
  Backlog: everything was produced before the workers start.
- The baseline is the path of the replaced system: one event at a time, six statements each committed by itself
  (settings, account, sum, insert, balance, statistics) through asyncpg, one worker. Its events are decoded and priced
  before, and it has no Kafka. Lost charges are what its transactions sum to and its balances do not show.
- Hot: every event is of one mandate and moves its one pool. Keyed as the contract says, it is one partition and so one
  worker, which is compared with one worker on spread accounts; without a key two workers meet on that account, which is
  compared with two workers on spread accounts.
- Faulty: one event in twenty would take its balance out of the ledger's range, or its row is refused by a constraint
  that was put on the ledger for the run, which stands for whatever no check foresees. Each is refused alone; the rate
  is that of the others.
- The published way: one event in twenty more is of a kind that only the decoding of the published package takes: with
  the id of a hold or quantities in odd spellings, of storage, in structured mode. Live runs with and without them take
  turns.
- Settling holds: every event names an open hold of its member, which its charge captures. The holds are made before,
  without the api. Live runs with and without them take turns.
- Latencies, of balances and of checks, count from three seconds after the workers were started on.
- Latency of a balance is from the call of the producer to the first look (every 10 ms) at which the balance has moved.
- Checks are sent at their time whether or not earlier ones were answered, and count from then; half are priced from
  tokens. The caller's context is signed; what was verified once is remembered until it is too old.
- Holds are made at their time in the same way, each with an idempotency key, and captured by cost as soon as they are
  there; a capture counts from the answer to its hold.
- Through the gateway a check comes with a service account's token, over 32 connections. Saturated, each asks its next
  check when its last one was answered; the load is on the same two cores.
- Activations go through a gateway, subscriptions, payments and the fake Stripe of a stack of their own, and each is
  charged before its answer. They are asked for at their time whether or not earlier ones were answered, and count from
  then: two a second by six mandates in turns, and every three seconds three of one further mandate at the same moment.
- Webhooks are events of a fake Stripe, a process beside: of nine payers six top up, two of whom get their money back,
  and three begin a subscription. They are delivered at their time, and count from then, while a worker processes them;
  or stored before a worker starts, where the rate counts from the first that it has processed. For each the worker
  fetches the object from the fake again, over HTTP, and the run ends with each payment, refund and subscription in the
  books once.
- Memory is the most that was ever resident in a worker, in millions of bytes.
{HOW_LARGE}"""


def _ratios(results: Results) -> list[tuple[str, ...]]:
    live, backlog, single, naive = results.live, results.backlog, results.backlog_single, results.naive
    rows: list[tuple[str, ...]] = []

    def add(row: str, what: str, above: float, below: float, target: float | None = None) -> None:
        ratio = above / below
        wanted, good = ("", "") if target is None else (f"≥ {target}", met(ratio >= target))
        rows.append((row, what, wanted, f"{ratio:.2f}", good))

    if live and naive:
        add("V2", "live / replaced path", _rate(live), _naive_rate(naive), NAIVE_RATIO)
    if backlog and naive:
        add("V2", "backlog / replaced path", _rate(backlog), _naive_rate(naive))
    if results.hot_shared and backlog:
        add(
            "V3",
            "hot account, both workers / spread, both workers",
            _rate(results.hot_shared),
            _rate(backlog),
            HOT_RATIO,
        )
    if results.hot and single:
        add("V3", "hot account, its one worker / spread, one worker", _rate(results.hot), _rate(single), HOT_RATIO)
    if results.hot and backlog:
        add("V3", "hot account, its one worker / spread, both workers", _rate(results.hot), _rate(backlog))
    for what, runs, clean, target in (
        ("backlog with 5 % too large / clean backlog", results.too_large, results.beside_faulty, FAULTY_RATIO),
        (
            "backlog with 5 % refused by the ledger / clean backlog",
            results.refused,
            results.beside_faulty,
            FAULTY_RATIO,
        ),
        ("live with 5 % the published way / live", results.published, results.beside_published, PUBLISHED_RATIO),
        ("live, each event settles a hold / live", results.settling, results.beside_settling, SETTLING_RATIO),
    ):
        if runs:
            add("V1" if runs is results.settling else "V9", what, _rate(runs), _rate(clean), target)
    if backlog and single:
        add("V1", "two workers / one", _rate(backlog), _rate(single))
    return rows


def absolutes(results: Results) -> list[tuple[str, ...]]:
    """What was measured so far: row, what, target, figure, and whether the target is met."""
    rows: list[tuple[str, ...]] = []
    if results.live:
        rate = _rate(results.live)
        target = f"≥ {LIVE_LEAST:,}/s, aim {LIVE_AIM:,}"
        rows.append(("V1", "live, two workers", target, _rates(results.live), met(rate >= LIVE_LEAST)))
    for name, runs in (
        ("backlog, two workers", results.backlog),
        ("backlog, one worker", results.backlog_single),
        ("one hot account, keyed", results.hot),
        ("one hot account, both workers on it", results.hot_shared),
        ("backlog, 5 % too large, the others", results.too_large),
        ("backlog, 5 % refused by the ledger, the others", results.refused),
        ("live, 5 % the published way", results.published),
        ("live, each event settles a hold", results.settling),
    ):
        if runs:
            row = "V3" if "hot" in name else "V9" if "5 %" in name else "V1"
            rows.append((row, name, "", _rates(runs), ""))
    for naive in (results.naive, results.naive_pair):
        if naive:
            workers = "one worker" if naive[0].workers == 1 else f"{naive[0].workers} workers"
            lost = max(run.lost_percent for run in naive)
            measured = f"{_naive_rate(naive):,.0f}/s, {lost:.1f} % of the charges lost"
            rows.append(("V2", f"replaced path, {workers}", "", measured, ""))
    for checked in (results.checks, results.checks_charging):
        if checked is not None:
            rows.append(_check_row(checked))
    rows += [*_hold_rows(results.holds), *_gateway_rows(results)]
    if results.probed is not None:
        latency = results.probed.latency
        rows.append(
            (
                "V5",
                f"event to visible balance at {results.probed.events_per_s:,.0f} events/s",
                f"p99 < {LATENCY_P99_MS:.0f} ms",
                latency_text(latency),
                met(latency.p99_ms < LATENCY_P99_MS),
            )
        )
    if results.memory is not None:
        peak = max(results.memory.memory_peaks_mb)
        what = f"memory of a worker, backlog of {results.memory.events:,}"
        rows.append(("V8", what, f"< {MEMORY_MB:.0f} MB", f"{peak:.0f} MB", met(peak < MEMORY_MB)))
        rows.append(("V8", "rate of that backlog", "", _rates([results.memory]), ""))
    rows += large_rows(results.lists, results.exports, results.statistics, results.invoice)
    return rows + [row for part in results.parts for row in part.rows()]


def _check_row(checked: Checked) -> tuple[str, ...]:
    beside = f" beside {checked.events_per_s:,.0f} events/s" if checked.events_per_s else ""
    refused = {name: count for name, count in checked.outcomes.items() if name != "ALLOWED"}
    told = latency_text(checked.latency) + (f"; not allowed: {refused}" if refused else "")
    good = checked.latency.p99_ms < CHECK_P99_MS and not refused
    # The demand is for checks alone; the other is told beside it.
    target, kept = ("", "") if beside else (f"p99 < {CHECK_P99_MS:.0f} ms", met(good))
    return "V4", f"check at {checked.checks_per_s:,.0f}/s{beside}", target, told, kept


def _hold_rows(made: Held | None) -> list[tuple[str, ...]]:
    if made is None:
        return []
    others = {name: count for name, count in made.outcomes.items() if name != "captured"}
    told = f"; others: {others}" if others else ""
    # A rate that is kept up is the one that was asked for, but for the last requests.
    kept_up = made.holds_per_s >= 0.98 * HOLDS_LEAST and not others
    target = f"≥ {HOLDS_LEAST}/s, p99 < {HOLD_P99_MS:.0f} ms"
    return [
        ("V4", f"{what} at {made.holds_per_s:,.0f}/s", target, latency_text(latency) + told, met(kept_up and good))
        for what, latency in (("hold", made.held), ("its capture", made.captured))
        for good in [latency.p99_ms < HOLD_P99_MS]
    ]


def _gateway_rows(results: Results) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    saturated, at_rate = results.gateway_saturated, results.gateway_at_rate
    for checked, what, target, good in (
        (
            saturated,
            "check through one gateway, saturated",
            f"≥ {GATEWAY_LEAST:,}/s, aim {GATEWAY_AIM:,}",
            saturated is not None and saturated.per_second >= GATEWAY_LEAST,
        ),
        (
            at_rate,
            f"check through one gateway at {RATE_PER_S:.0f}/s",
            f"p99 < {GATEWAY_P99_MS:.0f} ms",
            at_rate is not None and at_rate.latency.p99_ms < GATEWAY_P99_MS,
        ),
    ):
        if checked is not None:
            refused = {name: count for name, count in checked.outcomes.items() if name != "ALLOWED"}
            told = f"{checked.per_second:,.0f}/s, {latency_text(checked.latency)}"
            told += f"; not allowed: {refused}" if refused else ""
            rows.append(("V4", what, target, told, met(good and not refused)))
    return rows


def _cpu(results: Results) -> list[str]:
    uses = results.uses()
    names = sorted({name for _, use, _ in uses for name in use.by_process})
    rows = []
    for run, use, events in uses:
        microseconds = use.microseconds(events)
        others = f"{use.others_percent:.0f} %"
        rows.append((run, *(f"{microseconds[name]:.1f}" if name in microseconds else "" for name in names), others))
    return _table(("run", *names, "machine used by others"), rows)


def _others(results: Results) -> list[str]:
    most = max((use.others_percent for _, use, _ in results.uses()), default=0.0)
    if most <= OTHERS_PERCENT:
        return []
    return [
        f"**Other processes used up to {most:.0f} % of the machine meanwhile: the absolutes are too low by that.**",
        "",
    ]


def _rates(runs: Sequence[Charged]) -> str:
    rates = sorted(run.rate.per_second for run in runs)
    spread = f" ({rates[0]:,.0f} to {rates[-1]:,.0f} in {len(rates)} runs)" if len(rates) > 1 else ""
    return f"{_rate(runs):,.0f}/s{spread}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_line(head), _line(["---"] * len(head)), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
