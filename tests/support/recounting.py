"""Statistics counted again from the rows of the ledger, without anything that the product counts them by."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from tests.support.ledger import Books

__all__ = ["Recount", "recount", "usage_rows"]

Row = Mapping[str, Any]


@dataclass
class Recount:
    """Costs in micro-CHF, as an answer has them."""

    cost: int = 0
    count: int = 0
    by_provider: Counter[str] = field(default_factory=Counter)
    by_model: Counter[str] = field(default_factory=Counter)
    by_feature: Counter[str] = field(default_factory=Counter)
    by_mandate: Counter[str] = field(default_factory=Counter)
    by_member: Counter[str] = field(default_factory=Counter)
    # How often, by the name of the answer's costs and the key there.
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    # By the day or month: cost, count, and costs by provider.
    series: dict[str, tuple[int, int, Counter[str]]] = field(default_factory=dict)

    def answered(self, series: Sequence[str] = ()) -> dict[str, Any]:
        """The answer, in CHF, with these entries of the series; without labels."""

        def chf(costs: Mapping[str, int]) -> dict[str, Decimal]:
            return {name: Decimal(cost).scaleb(-6) for name, cost in costs.items()}

        entries = []
        for when in series:
            cost, count, providers = self.series.get(when, (0, 0, Counter()))
            amount = Decimal(cost).scaleb(-6)
            name = "date" if len(when) == 10 else "month"
            entries.append(
                {name: when, "cost": amount, "totalCost": amount, "count": count, "byProvider": chf(providers)}
            )
        costs = {
            "Provider": self.by_provider,
            "Model": self.by_model,
            "Feature": self.by_feature,
            "Mandate": self.by_mandate,
            "Member": self.by_member,
        }
        return {
            "totalCost": Decimal(self.cost).scaleb(-6),
            "transactionCount": self.count,
            **{f"costBy{name}": chf(by_name) for name, by_name in costs.items()},
            **{f"countBy{name}": dict(self.counts[name]) for name in costs},
            "timeSeries": entries,
        }


async def usage_rows(books: Books, mandates: Sequence[str]) -> list[Row]:
    """The rows that are costs: usage and storage, and what corrects them, with the member they are about."""
    return await books.fetch(
        "SELECT t.*, m.id AS mandate_id, a.user_id, d.provider, d.model, d.feature_code, d.feature_instance_id"
        " FROM transactions t JOIN mandates m ON m.no = t.mandate_no"
        " JOIN accounts a ON a.mandate_no = t.mandate_no AND a.no = t.member_account_no"
        " LEFT JOIN dimensions d ON d.mandate_no = t.mandate_no AND d.no = t.dimension_no"
        " WHERE m.id = ANY($1) AND t.reference_type IN ('WORKFLOW', 'STORAGE')"
        " AND t.transaction_type IN ('DEBIT', 'ADJUSTMENT') ORDER BY t.occurred_at",
        list(mandates),
    )


def recount(
    rows: Sequence[Row],
    zones: Mapping[str, str],
    *,
    first: date,
    last: date,
    by: str,
    names: Mapping[str, str],
    where: Callable[[Row], bool] = lambda row: True,
) -> Recount:
    """Counts those rows again whose local day is from `first` to `last`; `by` is `day` or `month`, `names` are what the
    mandates are called."""
    made = Recount()
    for row in rows:
        day = row["occurred_at"].astimezone(ZoneInfo(zones[row["mandate_id"]])).date()
        if not first <= day <= last or not where(row):
            continue
        cost = row["amount"] if row["transaction_type"] == "DEBIT" else -row["amount"]
        is_reversal = row["transaction_type"] == "ADJUSTMENT" and row["description"].startswith("Reversal")
        count = 1 if row["transaction_type"] == "DEBIT" else -1 if is_reversal else 0
        name = names[row["mandate_id"]]
        keys = {
            "Provider": (made.by_provider, row["provider"] or "unknown"),
            "Model": (made.by_model, row["model"] or "unknown"),
            "Feature": (made.by_feature, f"{name} / {row['feature_code'] or 'unknown'}"),
            "Mandate": (made.by_mandate, name),
            "Member": (made.by_member, row["user_id"] or "unknown"),
        }
        made.cost += cost
        made.count += count
        for what, (costs, key) in keys.items():
            costs[key] += cost
            made.counts[what][key] += count
        when = day.isoformat() if by == "day" else day.isoformat()[:7]
        before, counted, providers = made.series.get(when, (0, 0, Counter()))
        providers[row["provider"] or "unknown"] += cost
        made.series[when] = before + cost, counted + count, providers
    return made
