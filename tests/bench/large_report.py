"""What was measured upon a large ledger, as rows of the page."""

from collections.abc import Mapping

from tests.bench.figures import latency_text, met
from tests.bench.large_ledger import LARGE, TENTH
from tests.bench.lists import Exported, Listed
from tests.bench.month_invoice import Invoiced
from tests.bench.year_statistics import YEAR, Shown

__all__ = ["HOW_LARGE", "large_rows"]

LIST_P99_MS = 50.0
EXPORTED_LEAST = 50_000
# What an export may take beside what its process had before: some parts of it on their way.
EXPORT_GROWN_MB = 50.0
YEAR_P99_MS = 20.0
FLAT_MOST = 1.2
INVOICE_S = 5.0

HOW_LARGE = """\
- Lists, statistics and the invoice are measured one request at a time upon a ledger of its own: five million rows of a
  year, half a million of them of one mandate and a million, all of one month, of the mandate that is invoiced. It is
  made by charges and by copies of them in the order of time, and the audit finds nothing in it, before and after the
  invoice. Statistics are compared with those of a mandate that has a tenth of the rows and as many members.
"""


def large_rows(
    lists: Listed | None, exports: Mapping[str, Exported], statistics: Shown | None, invoice: Invoiced | None
) -> list[tuple[str, ...]]:
    """Row, what, target, figure, and whether the target is met."""
    rows: list[tuple[str, ...]] = []
    for name, latency in lists.latencies.items() if lists is not None else ():
        target = f"p99 < {LIST_P99_MS:.0f} ms"
        good = latency.p99_ms < LIST_P99_MS
        rows.append(("S4", f"list: {name}", target, latency_text(latency), met(good)))
    for name, export in exports.items():
        told = f"{export.per_second:,.0f}/s, {export.lines:,} lines, {export.grown_mb:.0f} MB more"
        target = f"≥ {EXPORTED_LEAST:,}/s, < {EXPORT_GROWN_MB:.0f} MB more"
        good = export.per_second >= EXPORTED_LEAST and export.grown_mb < EXPORT_GROWN_MB
        rows.append(("S4", f"export {name}", target, told, met(good)))
    if statistics is not None:
        rows += _statistics_rows(statistics)
    if invoice is not None:
        told = f"{invoice.seconds:.2f} s, {invoice.lines:,} lines"
        what = f"invoice of {invoice.rows:,} usage rows"
        rows.append(("L18", what, f"< {INVOICE_S:.0f} s", told, met(invoice.seconds < INVOICE_S)))
    return rows


def _statistics_rows(shown: Shown) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for (name, mandate), latency in shown.latencies.items():
        demanded = name == YEAR
        target, good = (f"p99 < {YEAR_P99_MS:.0f} ms", met(latency.p99_ms < YEAR_P99_MS)) if demanded else ("", "")
        rows.append(("V6", f"statistics: {name}, {_OF[mandate]}", target, latency_text(latency), good))
    ratio = shown.flatness(YEAR)
    rows.append(
        ("V6", f"statistics: {YEAR}, many / a tenth", f"≤ {FLAT_MOST}", f"{ratio:.2f}", met(ratio <= FLAT_MOST))
    )
    return rows


_OF = {LARGE: "many charges", TENTH: "a tenth"}
