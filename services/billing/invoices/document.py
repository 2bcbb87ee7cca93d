"""An invoice as its documents show it, in one language. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple, Protocol

from services.billing.invoices.domain import DraftLine
from services.billing.invoices.texts import describe_line, describe_rest, one_line
from services.billing.money import plain

__all__ = ["LINES_MAX", "Document", "Party", "ShownLine", "document_of"]

# So many lines are shown one by one, so that a document has an end; what is left is one more. The API has them all.
LINES_MAX = 500


class Fields(Protocol):
    """A row of an invoice or of one of its lines, by the names of its columns."""

    def __getitem__(self, name: str, /) -> Any:
        """The value of a column."""
        ...


class Party(NamedTuple):
    """Who issues an invoice, or whom it is for."""

    name: str
    street: str
    zip: str
    city: str
    country: str
    vat_number: str | None


@dataclass(frozen=True, slots=True)
class ShownLine:
    """A line: what it is for, how often, from which to which day, and its amount with and without VAT (micro-CHF)."""

    description: str
    count: int
    first_day: date
    last_day: date
    amount: int
    net: int


@dataclass(frozen=True, slots=True)
class Document:
    """Everything that is on it; amounts in micro-CHF. Without `taxed` it has no VAT, because none is due."""

    language: str
    number: str
    issued_on: date
    due_on: date
    period_start: date
    period_end: date
    seller: Party
    iban: str
    recipient: Party
    reference: str
    taxed: bool
    vat_percent: str
    lines: Sequence[ShownLine]
    net: int
    vat: int
    total: int


def document_of(row: Fields, lines: Sequence[Fields], language: str, *, issued_on: date, due_on: date) -> Document:
    """The document of an invoice's row and its lines."""
    return Document(
        language=language,
        number=row["number"],
        issued_on=issued_on,
        due_on=due_on,
        period_start=row["period_start"],
        period_end=row["period_end"],
        seller=_party(row["seller"], "name"),
        iban=row["seller"]["iban"],
        recipient=_party(row["recipient"], "company"),
        reference=row["reference"],
        taxed=row["vat_country"] is not None,
        vat_percent=plain(row["vat_percent"]),
        lines=_shown(lines, language),
        net=row["net"],
        vat=row["vat"],
        total=row["total"],
    )


def _party(stored: Mapping[str, Any], name: str) -> Party:
    vat_number = stored["vat_number"]
    return Party(
        name=one_line(stored[name]),
        street=one_line(stored["street"]),
        zip=one_line(stored["zip"]),
        city=one_line(stored["city"]),
        country=stored["country"],
        vat_number=None if vat_number is None else one_line(vat_number),
    )


def _shown(lines: Sequence[Fields], language: str) -> list[ShownLine]:
    one_by_one = lines if len(lines) <= LINES_MAX else lines[: LINES_MAX - 1]
    shown = [
        ShownLine(
            one_line(describe_line(_draft(line), language)),
            line["count"],
            line["first_day"],
            line["last_day"],
            line["amount"],
            line["net"],
        )
        for line in one_by_one
    ]
    rest = lines[len(one_by_one) :]
    if rest:
        shown.append(
            ShownLine(
                describe_rest(len(rest), language),
                sum(line["count"] for line in rest),
                min(line["first_day"] for line in rest),
                max(line["last_day"] for line in rest),
                sum(line["amount"] for line in rest),
                sum(line["net"] for line in rest),
            )
        )
    return shown


def _draft(line: Fields) -> DraftLine:
    return DraftLine(**{name: line[name] for name in DraftLine.__slots__})
