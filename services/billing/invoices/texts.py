"""The words of an invoice, in German and English, and how its numbers and days are written. Pure."""

import unicodedata
from collections.abc import Mapping
from datetime import date
from typing import Final

from services.billing.invoices.domain import DraftLine

__all__ = [
    "TEXTS",
    "describe_line",
    "describe_rest",
    "one_line",
    "written_amount",
    "written_day",
    "written_percent",
]

_PARTS_APART: Final = " · "
# What XML cannot hold beside control characters.
_NO_CHARACTERS: Final = frozenset("\ufffe\uffff")

TEXTS: Final[Mapping[str, Mapping[str, str]]] = {
    "de": {
        "title": "Rechnung",
        "file": "Rechnung",
        "number": "Rechnungsnummer",
        "date": "Rechnungsdatum",
        "period": "Leistungsperiode",
        "due": "Zahlbar bis",
        "customer_vat": "UID-Nr. des Kunden",
        "seller_vat": "MWST-Nr.",
        "reference": "Referenz",
        "description": "Leistung",
        "count": "Anzahl",
        "days": "Zeitraum",
        "amount": "Betrag CHF",
        "net": "Total exkl. MWST",
        "vat": "MWST {percent} %",
        "no_vat": "Nicht der Schweizer MWST unterstellt (Ort der Leistung im Ausland)",
        "total": "Total inkl. MWST",
        "total_without": "Total",
        "inclusive": "Alle Beträge der Positionen verstehen sich inklusive Mehrwertsteuer.",
        "nothing_due": "Dieser Betrag ist bereits beglichen; es ist nichts zu bezahlen.",
        "please_transfer": "Bitte überweisen Sie den Betrag bis {day} auf das Konto {account}, Referenz {reference}.",
        "please_pay": "Bitte bezahlen Sie bis {day} mit dem QR-Einzahlungsschein auf der letzten Seite.",
        "page": "Seite {page} von {pages}",
        "USAGE": "AI-Nutzung",
        "STORAGE": "Speicher",
        "CORRECTION": "Korrektur",
        "BUDGET": "Abzüglich Budget Ihres Abonnements",
        "PROMOTION": "Abzüglich Gutschrift",
        "CREDIT": "Abzüglich bereits bezahltes Guthaben",
        "BALANCE": "Saldovortrag",
        "rest": "{count} weitere Positionen",
        "unknown": "unbekannt",
    },
    "en": {
        "title": "Invoice",
        "file": "invoice",
        "number": "Invoice number",
        "date": "Invoice date",
        "period": "Period of supply",
        "due": "Payable by",
        "customer_vat": "Customer's VAT no.",
        "seller_vat": "VAT no.",
        "reference": "Reference",
        "description": "Service",
        "count": "Count",
        "days": "Dates",
        "amount": "Amount CHF",
        "net": "Total without VAT",
        "vat": "VAT {percent} %",
        "no_vat": "Not subject to Swiss VAT (place of supply abroad)",
        "total": "Total with VAT",
        "total_without": "Total",
        "inclusive": "All amounts of the items include value added tax.",
        "nothing_due": "This amount is settled already; there is nothing to be paid.",
        "please_transfer": "Please transfer the amount by {day} to the account {account}, reference {reference}.",
        "please_pay": "Please pay by {day} with the QR-bill on the last page.",
        "page": "Page {page} of {pages}",
        "USAGE": "AI usage",
        "STORAGE": "Storage",
        "CORRECTION": "Correction",
        "BUDGET": "Less the budget of your subscription",
        "PROMOTION": "Less promotional credit",
        "CREDIT": "Less credit paid already",
        "BALANCE": "Balance brought forward",
        "rest": "{count} more items",
        "unknown": "unknown",
    },
}


def describe_line(line: DraftLine, language: str) -> str:
    """What a line is for."""
    texts = TEXTS[language]
    names = [line.provider, line.model, line.feature_code, line.feature_instance_id]
    parts = [texts[line.kind], *(name for name in names if name is not None)]
    if line.kind in ("USAGE", "CORRECTION") and len(parts) == 1:
        parts.append(texts["unknown"])
    return _PARTS_APART.join(parts)


def describe_rest(count: int, language: str) -> str:
    """What stands for lines that there is no room for."""
    return TEXTS[language]["rest"].format(count=count)


def one_line(text: str) -> str:
    """A text of others as every document can hold it: in one line, without control characters."""
    words = " ".join(text.split())
    return "".join(each for each in words if unicodedata.category(each) != "Cc" and each not in _NO_CHARACTERS).strip()


def written_amount(micros: int) -> str:
    """An amount of whole Rappen as it is written in Switzerland: 1'234.50."""
    rappen = abs(micros) // 10_000
    francs = f"{rappen // 100:,}".replace(",", "\N{RIGHT SINGLE QUOTATION MARK}")
    return f"{'-' if micros < 0 else ''}{francs}.{rappen % 100:02d}"


def written_day(day: date) -> str:
    """A day as it is written in Switzerland, in both languages."""
    return f"{day.day:02d}.{day.month:02d}.{day.year}"


def written_percent(percent: str) -> str:
    """A percentage without zeros that say nothing."""
    return percent.rstrip("0").rstrip(".") if "." in percent else percent
