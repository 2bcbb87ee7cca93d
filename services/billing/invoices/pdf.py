"""An invoice as a PDF: what the law wants on it, its lines, and on the last page the QR-bill. It depends on nothing but
the document, so the same one is drawn in the same way."""

from io import BytesIO

from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas

from services.billing.invoices.document import Document, Party, ShownLine
from services.billing.invoices.lettering import BOLD, REGULAR, draw, legible, register_fonts, wrapped
from services.billing.invoices.qr_bill import HEIGHT, draw_qr_bill, has_qr_bill, qr_bill_of, spaced
from services.billing.invoices.texts import TEXTS, written_amount, written_day, written_percent

__all__ = ["draw_invoice"]

WIDTH, PAGE_HEIGHT = A4
LEFT, RIGHT = 20 * mm, WIDTH - 20 * mm
TOP, BOTTOM = PAGE_HEIGHT - 20 * mm, 22 * mm
ROW, DESCRIPTION_WIDTH = 4.6 * mm, 92 * mm
COUNT_AT, DAYS_AT = LEFT + 112 * mm, LEFT + 116 * mm
VALUES_AT = LEFT + 40 * mm
# Above the QR-bill, what the sums take, and what title and facts do at most.
ROOM_OF_BILL, ROOM_OF_TOTALS, ROOM_OF_FACTS = HEIGHT + 6 * mm, 34 * mm, 70 * mm


def draw_invoice(document: Document) -> bytes:
    """The pages."""
    register_fonts()
    # The number of pages stands on each, so it is drawn twice.
    pages = _Pages(document, 0)
    pages.draw()
    final = _Pages(document, pages.page)
    final.draw()
    return final.content()


class _Pages:
    """The pages of one document, from the top down; `y` is where the next line goes."""

    def __init__(self, document: Document, pages: int) -> None:
        self.page = 1
        self._document = document
        self._texts = TEXTS[document.language]
        self._pages = pages
        self._out = BytesIO()
        # Without the time of now.
        self._canvas = Canvas(self._out, pagesize=A4, invariant=1, lang=f"{document.language}-CH")
        self._y = TOP

    def content(self) -> bytes:
        """The finished file."""
        self._canvas.save()
        return self._out.getvalue()

    def draw(self) -> None:
        """Draws everything."""
        canvas, document, texts = self._canvas, self._document, self._texts
        canvas.setTitle(f"{texts['title']} {document.number}")
        canvas.setAuthor(document.seller.name)
        self._parties()
        self._facts()
        self._head_of_lines()
        for line in document.lines:
            self._need(ROW)
            self._line(line)
        self._need(ROOM_OF_TOTALS)
        self._totals()
        self._close()

    def _parties(self) -> None:
        seller, recipient, texts = self._document.seller, self._document.recipient, self._texts
        self._text(LEFT, seller.name, font=BOLD, size=12)
        for line in (*_address_lines(seller)[1:], f"{texts['seller_vat']} {seller.vat_number}"):
            self._text(LEFT, line, size=9)
        self._y = TOP - 32 * mm
        for line in _address_lines(recipient):
            self._text(LEFT + 98 * mm, line, size=10, width=72 * mm)
        # What follows stands at the same place, unless an address is so long that it would be written over.
        self._y = min(TOP - 62 * mm, self._y - 6 * mm)
        if self._y - ROOM_OF_FACTS < BOTTOM:
            self._next_page()

    def _facts(self) -> None:
        document, texts = self._document, self._texts
        self._text(LEFT, f"{texts['title']} {document.number}", font=BOLD, size=16)
        self._y -= 2 * mm
        period = f"{written_day(document.period_start)} - {written_day(document.period_end)}"
        facts = [
            (texts["date"], written_day(document.issued_on)),
            (texts["period"], period),
            (texts["due"], written_day(document.due_on)),
            (texts["reference"], document.reference),
        ]
        if document.recipient.vat_number:
            facts.append((texts["customer_vat"], document.recipient.vat_number))
        for name, value in facts:
            draw(self._canvas, LEFT, self._y, name, size=9)
            for text in wrapped(value, REGULAR, 9, RIGHT - VALUES_AT):
                draw(self._canvas, VALUES_AT, self._y, text, size=9)
                self._y -= ROW
        self._y -= 3 * mm

    def _head_of_lines(self) -> None:
        canvas, texts = self._canvas, self._texts
        canvas.setFont(BOLD, 9)
        canvas.drawString(LEFT, self._y, texts["description"])
        canvas.drawRightString(COUNT_AT, self._y, texts["count"])
        canvas.drawString(DAYS_AT, self._y, texts["days"])
        canvas.drawRightString(RIGHT, self._y, texts["amount"])
        self._y -= 1.5 * mm
        canvas.setLineWidth(0.6)
        canvas.line(LEFT, self._y, RIGHT, self._y)
        self._y -= ROW

    def _line(self, line: ShownLine) -> None:
        canvas = self._canvas
        first, *more = wrapped(line.description, REGULAR, 8, DESCRIPTION_WIDTH)
        draw(canvas, LEFT, self._y, first, size=8)
        canvas.setFont(REGULAR, 8)
        if line.count:
            canvas.drawRightString(COUNT_AT, self._y, f"{line.count:,}".replace(",", "\N{RIGHT SINGLE QUOTATION MARK}"))
        canvas.drawString(DAYS_AT, self._y, _days(line))
        canvas.drawRightString(RIGHT, self._y, written_amount(line.amount))
        for text in more:
            self._y -= ROW * 0.8
            self._need(ROW)
            draw(canvas, LEFT + 3 * mm, self._y, text, size=8)
        self._y -= ROW

    def _totals(self) -> None:
        canvas, document, texts = self._canvas, self._document, self._texts
        canvas.line(LEFT, self._y + 2 * mm, RIGHT, self._y + 2 * mm)
        self._y -= 2 * mm
        rows = [(texts["total_without"], document.total, True)]
        if document.taxed:
            vat = texts["vat"].format(percent=written_percent(document.vat_percent))
            rows = [
                (texts["net"], document.net, False),
                (vat, document.vat, False),
                (texts["total"], document.total, True),
            ]
        for name, amount, bold in rows:
            canvas.setFont(BOLD if bold else REGULAR, 10 if bold else 9)
            canvas.drawString(LEFT + 92 * mm, self._y, name)
            canvas.drawRightString(RIGHT, self._y, f"CHF {written_amount(amount)}")
            self._y -= ROW * 1.1
        notes = [texts["inclusive"] if document.taxed else texts["no_vat"]]
        notes.append(self._how_to_pay())
        for note in notes:
            self._text(LEFT, note, size=8)

    def _how_to_pay(self) -> str:
        document, texts = self._document, self._texts
        if document.total <= 0:
            return texts["nothing_due"]
        text = texts["please_pay" if has_qr_bill(document) else "please_transfer"]
        return text.format(
            day=written_day(document.due_on), account=spaced(document.iban), reference=document.reference
        )

    def _close(self) -> None:
        """The last page, with the QR-bill where there is one."""
        billed = has_qr_bill(self._document)
        if billed:
            if self._y < ROOM_OF_BILL:
                self._next_page()
            draw_qr_bill(self._canvas, qr_bill_of(self._document))
        self._foot(above_bill=billed)

    def _need(self, room: float) -> None:
        if self._y - room < BOTTOM:
            self._next_page()
            self._head_of_lines()

    def _next_page(self) -> None:
        self._foot(above_bill=False)
        self._canvas.showPage()
        self.page += 1
        self._y = TOP

    def _foot(self, *, above_bill: bool) -> None:
        text = self._texts["page"].format(page=self.page, pages=self._pages)
        y = HEIGHT + 2 * mm if above_bill else 12 * mm
        draw(self._canvas, LEFT, y, legible(f"{self._document.seller.name} · {self._document.number}"), size=7)
        self._canvas.setFont(REGULAR, 7)
        self._canvas.drawRightString(RIGHT, y, text)

    def _text(self, x: float, text: str, *, font: str = REGULAR, size: int, width: float = RIGHT - LEFT) -> None:
        for line in wrapped(text, font, size, width):
            draw(self._canvas, x, self._y, line, font=font, size=size)
            self._y -= size * 1.35


def _address_lines(party: Party) -> list[str]:
    place = f"{party.zip} {party.city}".strip()
    country = [] if party.country == "CH" else [party.country]
    return [line for line in (party.name, party.street, place, *country) if line]


def _days(line: ShownLine) -> str:
    if line.first_day == line.last_day:
        return written_day(line.first_day)
    if line.first_day.replace(day=1) == line.last_day.replace(day=1):
        return f"{line.first_day.day:02d}. - {written_day(line.last_day)}"
    return f"{written_day(line.first_day)} - {written_day(line.last_day)}"
