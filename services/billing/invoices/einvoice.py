"""An invoice as structured data: Factur-X in the profile of EN 16931, inside the PDF that shows the same."""

from typing import Any

from facturx import generate_from_binary
from facturx.generate_xml import generate_cii_xml
from iso3166 import countries_by_alpha2

from services.billing.invoices.document import Document, Party
from services.billing.invoices.texts import TEXTS

__all__ = ["einvoice_xml", "with_einvoice"]

INVOICE = "380"
CREDIT_TRANSFER = "30"
PIECE = "C62"
# VAT at a rate, and what is outside the scope of the VAT.
STANDARD, OUTSIDE = "S", "O"
# Zero is a rate of its own.
ZERO = "Z"
NAME_LENGTH_MAX = 200
# What numbers of VAT begin with that is no country: those of Greece and of Northern Ireland.
VAT_AREAS = frozenset(("EL", "XI"))


def einvoice_xml(document: Document) -> bytes:
    """The XML of EN 16931, which is checked against its schema; the amounts of the lines are without VAT."""
    xml: bytes = generate_cii_xml(_fields(document), level="en16931", check_xsd=True, check_schematron=None)
    return xml


def with_einvoice(document: Document, pdf: bytes) -> bytes:
    """The PDF with the structured invoice inside."""
    texts = TEXTS[document.language]
    title = f"{texts['title']} {document.number}"
    metadata = {"author": document.seller.name, "title": title, "subject": title, "keywords": "Factur-X"}
    made: bytes = generate_from_binary(
        pdf,
        einvoice_xml(document),
        flavor="factur-x",
        level="en16931",
        check_xsd=False,
        pdf_metadata=metadata,
        lang=f"{document.language}-CH",
        afrelationship="data",
    )
    return made


def _fields(document: Document) -> dict[str, Any]:
    category = OUTSIDE if not document.taxed else (STANDARD if _taxes(document) else ZERO)
    rate = {} if category == OUTSIDE else {"BT-152": document.vat_percent}
    breakdown: dict[str, Any] = {
        "BT-116": _decimal(document.net),
        "BT-117": _decimal(document.vat),
        "BT-118": category,
    }
    if category == OUTSIDE:
        breakdown["BT-120"] = TEXTS[document.language]["no_vat"]
        breakdown["BT-121"] = "VATEX-EU-O"
    else:
        breakdown["BT-119"] = document.vat_percent
    return {
        "BT-1": document.number,
        "BT-2": document.issued_on,
        "BT-3": INVOICE,
        "BT-5": "CHF",
        "BT-9": document.due_on,
        "BT-72": document.period_end,
        "BT-73": document.period_start,
        "BT-74": document.period_end,
        "BT-81": CREDIT_TRANSFER,
        "BT-83": document.reference,
        "BT-84": document.iban,
        "BT-85": document.seller.name,
        "BT-106": _decimal(document.net),
        "BT-109": _decimal(document.net),
        "BT-110": _decimal(document.vat),
        "BT-112": _decimal(document.total),
        "BT-115": _decimal(document.total),
        "BG-4": _party(document.seller, taxed=category != OUTSIDE, legal=True),
        "BG-7": _party(document.recipient, taxed=category != OUTSIDE, legal=False),
        "BG-23": [breakdown],
        "BG-25": [
            {
                "BT-126": str(position),
                "BT-129": "1" if line.net >= 0 else "-1",
                "BT-130": PIECE,
                "BT-131": _decimal(line.net),
                "BT-134": line.first_day,
                "BT-135": line.last_day,
                "BT-146": _decimal(abs(line.net)),
                "BT-151": category,
                **rate,
                "BT-153": line.description[:NAME_LENGTH_MAX],
            }
            for position, line in enumerate(document.lines, 1)
        ],
    }


def _taxes(document: Document) -> bool:
    return any(each not in "0." for each in document.vat_percent)


def _party(party: Party, *, taxed: bool, legal: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        # There is none without a name.
        "name": party.name or "-",
        "country_code": party.country,
        "addr_l1": party.street or None,
        "postcode": party.zip or None,
        "city": party.city or None,
    }
    if party.vat_number and taxed and _has_prefix(party.vat_number):
        found["vat_identifier"] = party.vat_number
    elif party.vat_number and legal:
        found["legal_identifier"] = party.vat_number
    return {name: text for name, text in found.items() if text is not None}


def _has_prefix(number: str) -> bool:
    """Whether it begins with a country, without which no number of VAT is one in EN 16931."""
    return len(number) > 2 and (number[:2] in countries_by_alpha2 or number[:2] in VAT_AREAS)


def _decimal(micros: int) -> str:
    rappen = abs(micros) // 10_000
    return f"{'-' if micros < 0 else ''}{rappen // 100}.{rappen % 100:02d}"
