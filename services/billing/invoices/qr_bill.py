"""The payment part and receipt of a Swiss QR-bill, at the foot of a page, as the style guide of the banks has it."""

import re
import unicodedata
from typing import Any

from qrbill import QRBill
from qrbill.bill import Address
from qrcode import QRCode
from qrcode.constants import ERROR_CORRECT_M
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas

from services.billing.invoices.document import Document, Party
from services.billing.invoices.lettering import BOLD, REGULAR, in_latin

__all__ = ["HEIGHT", "draw_qr_bill", "has_qr_bill", "qr_bill_of", "spaced"]

HEIGHT = 105 * mm
RECEIPT_WIDTH = 62 * mm
PAGE_WIDTH = 210 * mm
QR_SIZE = 46 * mm
CROSS_SIZE = 7 * mm
MARGIN = 5 * mm
# CHF 999,999,999.99, in micro-CHF.
AMOUNT_MAX = 999_999_999_990_000
# What the banks take, per field.
NAME_MAX, STREET_MAX, HOUSE_MAX, ZIP_MAX, CITY_MAX = 70, 70, 16, 16, 35
_HOUSE = re.compile(r"^(?P<street>.*\S)\s+(?P<house>\d[\w./-]{0,15})$")
# The characters that they take beside Latin letters.
_SIGNS = frozenset("ȘșȚț€")
_LATIN_END = 0x180

_LABELS = {
    "de": {
        "receipt": "Empfangsschein",
        "payment": "Zahlteil",
        "account": "Konto / Zahlbar an",
        "reference": "Referenz",
        "information": "Zusätzliche Informationen",
        "debtor": "Zahlbar durch",
        "debtor_blank": "Zahlbar durch (Name/Adresse)",
        "currency": "Währung",
        "amount": "Betrag",
        "acceptance": "Annahmestelle",
    },
    "en": {
        "receipt": "Receipt",
        "payment": "Payment part",
        "account": "Account / Payable to",
        "reference": "Reference",
        "information": "Additional information",
        "debtor": "Payable by",
        "debtor_blank": "Payable by (name/address)",
        "currency": "Currency",
        "amount": "Amount",
        "acceptance": "Acceptance point",
    },
}


def has_qr_bill(document: Document) -> bool:
    """Whether something is to be paid that a QR-bill can ask for: the standard has nine digits of francs. Without an
    amount it would only leave the payer to find out that no other can be entered either."""
    return 0 < document.total <= AMOUNT_MAX


def qr_bill_of(document: Document) -> QRBill:
    """The bill, which refuses what the banks would: account, reference and amount are checked. Addresses are in parts,
    since others are not taken any more."""
    rappen = document.total // 10_000
    return QRBill(
        account=document.iban,
        creditor=_address(document.seller),
        debtor=_address(document.recipient),
        amount=f"{rappen // 100}.{rappen % 100:02d}",
        currency="CHF",
        reference_number=document.reference,
        additional_information=_latin(document.number),
        language=document.language,
    )


def _address(party: Party) -> dict[str, str] | None:
    """An address in parts; None where the banks would not take it, so that the payer fills it in: it is not whole, or
    its country is none of ISO 3166."""
    if not (party.zip.strip() and party.city.strip() and party.name.strip() and _is_country(party.country)):
        return None
    found = _HOUSE.match(party.street.strip())
    street, house = (found["street"], found["house"]) if found else (party.street, "")
    return {
        "name": _latin(party.name)[:NAME_MAX],
        "street": _latin(street)[:STREET_MAX],
        "house_num": _latin(house)[:HOUSE_MAX],
        "pcode": _latin(party.zip)[:ZIP_MAX],
        "city": _latin(party.city)[:CITY_MAX],
        "country": party.country,
    }


def _is_country(code: str) -> bool:
    try:
        return bool(Address.parse_country(code) == code)
    except ValueError:
        return False


def _latin(text: str) -> str:
    """Text in the characters that the banks take; another letter is taken without its marks or
    written in Latin letters, a sign is left out."""
    found = []
    for each in " ".join(text.split()):
        if (each >= " " and ord(each) < _LATIN_END and each.isprintable()) or each in _SIGNS:
            found.append(each)
        else:
            without_marks = "".join(part for part in unicodedata.normalize("NFKD", each) if " " <= part < "\x7f")
            found.append(without_marks or in_latin(each))
    return "".join(found).strip() or "-"


def draw_qr_bill(canvas: Canvas, bill: QRBill) -> None:
    """Draws receipt and payment part at the foot of the current page."""
    labels = _LABELS[bill.language]
    canvas.setLineWidth(0.5)
    canvas.setDash(3, 2)
    canvas.line(0, HEIGHT, PAGE_WIDTH, HEIGHT)
    canvas.line(RECEIPT_WIDTH, 0, RECEIPT_WIDTH, HEIGHT)
    canvas.setDash()
    _receipt(canvas, bill, labels)
    _payment_part(canvas, bill, labels)


def _receipt(canvas: Canvas, bill: QRBill, labels: dict[str, str]) -> None:
    x, top = MARGIN, HEIGHT - MARGIN
    canvas.setFont(BOLD, 11)
    canvas.drawString(x, top - 11, labels["receipt"])
    _information(canvas, bill, labels, x=x, y=top - 7 * mm, sizes=(6, 8), width=52 * mm, more=False)
    _amount(canvas, bill, labels, x=x, sizes=(6, 8), gap=12 * mm)
    canvas.setFont(BOLD, 6)
    canvas.drawRightString(RECEIPT_WIDTH - MARGIN, 20 * mm, labels["acceptance"])


def _payment_part(canvas: Canvas, bill: QRBill, labels: dict[str, str]) -> None:
    x, top = RECEIPT_WIDTH + MARGIN, HEIGHT - MARGIN
    canvas.setFont(BOLD, 11)
    canvas.drawString(x, top - 11, labels["payment"])
    _code(canvas, bill, x=x, y=42 * mm)
    _amount(canvas, bill, labels, x=x, sizes=(8, 10), gap=16 * mm)
    _information(canvas, bill, labels, x=118 * mm, y=top, sizes=(8, 10), width=87 * mm, more=True)


def _information(
    canvas: Canvas,
    bill: QRBill,
    labels: dict[str, str],
    *,
    x: float,
    y: float,
    sizes: tuple[int, int],
    width: float,
    more: bool,
) -> None:
    """The headings with their values, from the top down; the receipt has no additional information."""
    heading, value = sizes
    blocks = [
        (labels["account"], [spaced(bill.account), *_lines_of(bill.creditor)]),
        (labels["reference"], [_reference(bill)]),
    ]
    if more and bill.additional_information:
        blocks.append((labels["information"], [bill.additional_information]))
    blocks.append((labels["debtor"] if bill.debtor else labels["debtor_blank"], _lines_of(bill.debtor)))
    for title, lines in blocks:
        canvas.setFont(BOLD, heading)
        y -= heading + 2
        canvas.drawString(x, y, title)
        canvas.setFont(REGULAR, value)
        for line in lines:
            y -= value + 1
            canvas.drawString(x, y, _fitting(canvas, line, value, width))
        y -= value / 2
    if not bill.debtor:
        _corners(canvas, x, y - 20 * mm, min(width, 65 * mm), 20 * mm)


def _amount(
    canvas: Canvas, bill: QRBill, labels: dict[str, str], *, x: float, sizes: tuple[int, int], gap: float
) -> None:
    heading, value = sizes
    top = 37 * mm
    canvas.setFont(BOLD, heading)
    canvas.drawString(x, top - heading - 2, labels["currency"])
    canvas.drawString(x + gap, top - heading - 2, labels["amount"])
    canvas.setFont(REGULAR, value)
    below = top - heading - 4 - value
    canvas.drawString(x, below, bill.currency)
    francs, _, rappen = bill.amount.partition(".")
    canvas.drawString(x + gap, below, f"{int(francs):,}".replace(",", " ") + f".{rappen}")


def _code(canvas: Canvas, bill: QRBill, *, x: float, y: float) -> None:
    """The QR code with the Swiss cross in its middle."""
    code: Any = QRCode(error_correction=ERROR_CORRECT_M, border=0)
    code.add_data(bill.qr_data().encode())
    code.make(fit=True)
    modules = code.get_matrix()
    size = QR_SIZE / len(modules)
    canvas.setFillGray(0)
    path = canvas.beginPath()
    for number, row in enumerate(modules):
        start = None
        for column, dark in enumerate([*row, False]):
            if dark and start is None:
                start = column
            elif not dark and start is not None:
                path.rect(x + start * size, y + QR_SIZE - (number + 1) * size, (column - start) * size, size)
                start = None
    canvas.drawPath(path, stroke=0, fill=1)
    _cross(canvas, x + QR_SIZE / 2, y + QR_SIZE / 2)


def _cross(canvas: Canvas, x: float, y: float) -> None:
    black, long, wide = CROSS_SIZE * 6 / 7, CROSS_SIZE * 3.75 / 7, CROSS_SIZE * 1.125 / 7
    for gray, width, height in ((1, CROSS_SIZE, CROSS_SIZE), (0, black, black), (1, long, wide), (1, wide, long)):
        canvas.setFillGray(gray)
        canvas.rect(x - width / 2, y - height / 2, width, height, stroke=0, fill=1)
    canvas.setFillGray(0)


def _corners(canvas: Canvas, x: float, y: float, width: float, height: float) -> None:
    """The field in which the payer writes a name."""
    arm = 3 * mm
    for left, bottom, right, up in ((x, y, 1, 1), (x + width, y, -1, 1), (x, y + height, 1, -1)):
        canvas.line(left, bottom, left + right * arm, bottom)
        canvas.line(left, bottom, left, bottom + up * arm)
    canvas.line(x + width, y + height, x + width - arm, y + height)
    canvas.line(x + width, y + height, x + width, y + height - arm)


def _lines_of(address: Any) -> list[str]:
    if address is None:
        return []
    street = " ".join(part for part in (address.street, address.house_num) if part)
    abroad = "" if address.country in ("CH", "LI") else f"{address.country}-"
    return [line for line in (address.name, street, f"{abroad}{address.pcode} {address.city}") if line]


def _reference(bill: QRBill) -> str:
    number: str = bill.reference_number
    if bill.ref_type == "QRR":
        return " ".join([number[:2], *(number[at : at + 5] for at in range(2, len(number), 5))])
    return spaced(number)


def spaced(text: str) -> str:
    """An account or reference in groups of four, as it is read out."""
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def _fitting(canvas: Canvas, text: str, size: int, width: float) -> str:
    """As much of a text as there is room for."""
    while len(text) > 1 and canvas.stringWidth(text, REGULAR, size) > width:
        text = text[:-1]
    return text
