"""Documents of invoices: as one sees them, as banks and other programs read them, and with an end."""

import asyncio
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pypdfium2
import pytest
from facturx import get_xml_from_pdf, xml_check_xsd
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from services.billing.invoices import give_document
from services.billing.invoices.document import LINES_MAX, Document, Party, ShownLine, document_of
from services.billing.invoices.domain import payment_reference
from services.billing.invoices.einvoice import einvoice_xml, with_einvoice
from services.billing.invoices.pdf import draw_invoice
from services.billing.invoices.qr_bill import qr_bill_of
from services.chassis.problems import Unavailable
from tests.support.documents import page_texts, qr_codes, written_over

NUMBER = "2026-000042"
LINE = ShownLine("AI-Nutzung · openai · gpt-5", 1234, date(2026, 5, 1), date(2026, 5, 31), 12_340_000, 11_420_000)
DOCUMENT = Document(
    language="de",
    number=NUMBER,
    issued_on=date(2026, 6, 1),
    due_on=date(2026, 7, 1),
    period_start=date(2026, 5, 1),
    period_end=date(2026, 5, 31),
    seller=Party("Muster AG", "Limmatquai 12", "8001", "Zürich", "CH", "CHE-123.456.788 MWST"),
    iban="CH9300762011623852957",
    recipient=Party("Acme AG", "Bahnhofstrasse 1", "8001", "Zürich", "CH", None),
    reference=payment_reference(NUMBER, qr_iban=False),
    taxed=True,
    vat_percent="8.1",
    lines=[LINE],
    net=11_420_000,
    vat=920_000,
    total=12_340_000,
)


def of_lines(*lines: ShownLine) -> Document:
    net, total = sum(line.net for line in lines), sum(line.amount for line in lines)
    return replace(DOCUMENT, lines=lines, net=net, total=total, vat=total - net)


def test_the_same_invoice_is_drawn_in_the_same_way() -> None:
    assert draw_invoice(DOCUMENT) == draw_invoice(DOCUMENT)


def test_many_lines_go_on_on_further_pages_and_the_bill_is_on_the_last() -> None:
    document = of_lines(*(replace(LINE, description=f"{LINE.description} · {number}") for number in range(120)))
    pages = page_texts(draw_invoice(document))
    assert len(pages) >= 3
    assert [f"Seite {number} von {len(pages)}" in text for number, text in enumerate(pages, 1)] == [True] * len(pages)
    assert ["Zahlteil" in text for text in pages] == [False] * (len(pages) - 1) + [True]
    assert sum(text.count("AI-Nutzung") for text in pages) == 120
    # Words that are longer than the column are broken, and nothing runs over the edge.
    wide = of_lines(replace(LINE, description="x" * 400), LINE)
    assert "".join(page_texts(draw_invoice(wide))[0].split()).count("x") >= 400


def test_every_page_fits_the_paper() -> None:
    pdf = pypdfium2.PdfDocument(draw_invoice(DOCUMENT))
    width, height = pdf[0].get_size()
    assert (round(width), round(height)) == (595, 842)
    image = pdf[0].render(scale=1).to_pil().convert("L")
    # The left and right edge above the QR-bill are white.
    for x in (5, 590):
        assert {image.getpixel((x, y)) for y in range(530)} == {255}


@pytest.mark.parametrize("letter", ["i", "W", "Wort "])
def test_the_longest_address_is_written_over_nothing(letter: str) -> None:
    longest = (letter * 200)[:200]
    recipient = Party(longest, longest, longest, longest, "DE", longest)
    content = draw_invoice(replace(DOCUMENT, recipient=recipient))
    assert "".join(page_texts(content)).count(letter[0]) >= 5 * longest.count(letter[0])
    assert written_over(content) == []


@pytest.mark.parametrize(("rappen", "text"), [(1, "0.01"), (10, "0.10"), (100_000_00, "100000.00")])
def test_the_code_has_the_amount(rappen: int, text: str) -> None:
    document = of_lines(replace(LINE, amount=rappen * 10_000, net=rappen * 10_000))
    (code,) = qr_codes(draw_invoice(document))
    assert code == qr_bill_of(document).qr_data()
    assert code.split("\r\n")[18] == text


def test_with_a_qr_iban_it_has_a_qr_reference() -> None:
    reference = payment_reference(NUMBER, qr_iban=True)
    document = replace(DOCUMENT, iban="CH4431999123000889012", reference=reference)
    (code,) = qr_codes(draw_invoice(document))
    assert code.split("\r\n")[27:29] == ["QRR", reference]


def test_nothing_due_has_no_bill() -> None:
    nothing = of_lines(LINE, replace(LINE, amount=-LINE.amount, net=-LINE.net))
    content = with_einvoice(nothing, draw_invoice(nothing))
    assert qr_codes(content) == []
    assert "es ist nichts zu bezahlen" in page_texts(content)[0]


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=200)


@settings(max_examples=40, deadline=None)
@given(NAMES, NAMES, NAMES, NAMES, st.sampled_from(["CH", "LI", "DE", "US"]))
def test_any_address_can_be_drawn_and_paid_to(company: str, street: str, code: str, city: str, country: str) -> None:
    document = replace(DOCUMENT, recipient=Party(company, street, code, city, country, None))
    bill = qr_bill_of(document)
    fields = bill.qr_data().split("\r\n")
    assert fields[20] in ("S", "")
    assert len(fields) == 31
    assert draw_invoice(document).startswith(b"%PDF")


HOSTILE = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=200)
ODD_TEXTS = ["\x01", "a\x0bb", "Foo\nBar", "\ufffe", "\x7f\x9f", "\u202eabc", "<&>\"'", "\u200b", "\U0001f600" * 70]


def stored(text: str, country: str) -> Document:
    """The document of rows in which every text is this one."""
    party = dict.fromkeys(("company", "name", "street", "zip", "city", "vat_number"), text)
    names = dict.fromkeys(("provider", "model", "feature_code", "feature_instance_id"), text)
    days = {"first_day": LINE.first_day, "last_day": LINE.last_day}
    line = {"kind": "USAGE", "count": 1, "cost": 12_340_000, "amount": 12_340_000, "net": 11_420_000, **names, **days}
    row = {
        **{name: getattr(DOCUMENT, name) for name in ("number", "period_start", "period_end", "reference")},
        "seller": {**DOCUMENT.seller._asdict(), "iban": DOCUMENT.iban},
        "recipient": {**party, "country": country},
        "vat_country": "CH",
        "vat_percent": Decimal("8.1"),
        "net": 11_420_000,
        "vat": 920_000,
        "total": 12_340_000,
    }
    return document_of(row, [line], "de", issued_on=DOCUMENT.issued_on, due_on=DOCUMENT.due_on)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_whatever_a_customer_or_publisher_writes_there_is_a_document(text: str) -> None:
    document = stored(text, "CH")
    content = with_einvoice(document, draw_invoice(document))
    assert "Rechnung 2026-000042" in page_texts(content)[0]
    assert len(qr_codes(content)) == 1


@settings(max_examples=40, deadline=None)
@given(HOSTILE)
def test_every_text_has_its_place_in_the_structured_invoice(text: str) -> None:
    assert xml_check_xsd(einvoice_xml(stored(text, "CH")), flavor="factur-x", level="en16931")


@pytest.mark.parametrize("country", ["UK", "XX", "EU", "ZZ"])
def test_a_country_that_is_none_leaves_the_payer_to_the_form(country: str) -> None:
    document = stored("Acme", country)
    content = with_einvoice(document, draw_invoice(document))
    (code,) = qr_codes(content)
    assert set(code.split("\r\n")[20:27]) == {""}
    assert "Zahlbar durch (Name/Adresse)" in page_texts(content)[-1]


@pytest.mark.parametrize("language", ["de", "en"])
@pytest.mark.parametrize("taxed", [True, False])
def test_the_structured_invoice_is_valid_and_the_same(language: str, taxed: bool) -> None:
    corrected = replace(LINE, amount=-2_340_000, net=-2_160_000)
    document = replace(of_lines(LINE, LINE, corrected), language=language, taxed=taxed)
    if not taxed:
        lines = [replace(line, net=line.amount) for line in document.lines]
        abroad = document.recipient._replace(country="DE")
        document = replace(of_lines(*lines), language=language, taxed=False, vat_percent="0", recipient=abroad)
    xml = einvoice_xml(document)
    assert xml_check_xsd(xml, flavor="factur-x", level="en16931")
    root = etree.fromstring(xml)
    sums = [float(each.text or 0) for each in root.iter("{*}LineTotalAmount")]
    assert round(sum(sums[:3]), 2) == sums[3] == document.net / 10**6
    (total,) = root.iter("{*}GrandTotalAmount")
    assert float(total.text or 0) == document.total / 10**6
    name, inside = get_xml_from_pdf(with_einvoice(document, draw_invoice(document)))
    assert (name, inside) == ("factur-x.xml", xml)


def test_a_document_has_an_end_and_says_what_is_left_out() -> None:
    line = {
        "kind": "USAGE",
        "provider": "openai",
        "model": "gpt-5",
        "feature_code": None,
        "feature_instance_id": None,
        "first_day": date(2026, 5, 1),
        "last_day": date(2026, 5, 2),
        "count": 2,
        "cost": 10_000,
        "amount": 10_000,
        "net": 10_000,
    }
    party = {"street": "a", "zip": "b", "city": "c", "country": "CH", "vat_number": None}
    row = {
        "number": NUMBER,
        "period_start": date(2026, 5, 1),
        "period_end": date(2026, 5, 31),
        "seller": {**party, "name": "x", "iban": "CH9300762011623852957"},
        "recipient": {**party, "company": "y"},
        "reference": DOCUMENT.reference,
        "vat_country": None,
        "vat_percent": 0,
        "net": 7_000_000,
        "vat": 0,
        "total": 7_000_000,
    }
    day = date(2026, 6, 1)
    document = document_of(row, [line] * 700, "en", issued_on=day, due_on=day)
    assert len(document.lines) == LINES_MAX
    last = document.lines[-1]
    assert (last.description, last.count, last.amount) == ("201 more items", 402, 2_010_000)
    assert sum(each.amount for each in document.lines) == 7_000_000
    assert len(page_texts(draw_invoice(document))) < 20


async def test_who_would_wait_too_long_for_a_document_is_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(give_document, "WAITING_MAX", 2)
    printer = give_document.Printer()
    done = await asyncio.gather(*(printer.print(DOCUMENT) for _ in range(4)), return_exceptions=True)
    assert [type(each) for each in done] == [bytes, bytes, Unavailable, Unavailable]
    assert "%PDF" in str((await printer.print(DOCUMENT))[:5])


@pytest.mark.parametrize(("rappen", "billed"), [(99_999_999_999, True), (100_000_000_000, False)])
def test_what_is_more_than_a_qr_bill_can_ask_for_is_paid_by_a_transfer(rappen: int, billed: bool) -> None:
    document = of_lines(replace(LINE, amount=rappen * 10_000, net=rappen * 10_000))
    content = with_einvoice(document, draw_invoice(document))
    codes, text = qr_codes(content), "".join(page_texts(content))
    assert len(codes) == billed
    assert ("Zahlteil" in text) == ("QR-Einzahlungsschein" in text) == billed
    transfer = f"Konto CH93 0076 2011 6238 5295 7, Referenz {document.reference}"
    assert (transfer in text) != billed
    if billed:
        assert codes[0].split("\r\n")[18] == "999999999.99"
    xml = einvoice_xml(document).decode()
    assert f"{rappen // 100}.{rappen % 100:02d}</ram:GrandTotalAmount>" in xml
    assert document.reference in xml


@pytest.mark.parametrize(
    ("number", "is_one"),
    [("CHE-987.654.321 MWST", True), ("DE123456789", True), ("EL123456789", True), ("UID CHE-987.654.321", False)],
)
def test_a_number_of_vat_that_begins_with_no_country_is_none_for_programs(number: str, is_one: bool) -> None:
    document = replace(DOCUMENT, recipient=DOCUMENT.recipient._replace(vat_number=number))
    numbers = etree.fromstring(einvoice_xml(document)).xpath("//*[local-name()='ID'][@schemeID='VA']/text()")
    assert (number in numbers) is is_one
    assert number in page_texts(draw_invoice(document))[0]
