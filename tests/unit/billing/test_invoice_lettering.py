"""Names and addresses of any script on an invoice: every letter has a glyph, and the line is as it is read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reportlab.pdfbase import pdfmetrics

from services.billing.invoices import lettering
from services.billing.invoices.document import Party
from services.billing.invoices.einvoice import with_einvoice
from services.billing.invoices.lettering import BOLD, REGULAR, legible, register_fonts, wrapped
from services.billing.invoices.pdf import draw_invoice
from services.billing.invoices.qr_bill import qr_bill_of
from tests.support.documents import page_texts, qr_codes
from tests.unit.billing.test_invoice_documents import LINE, of_lines


@pytest.fixture(autouse=True)
def fonts() -> None:
    register_fonts()


def seen(text: str) -> str:
    """What is drawn, from left to right."""
    return "".join(run for _, run in lettering._runs(legible(text), REGULAR))


@pytest.mark.parametrize(
    ("text", "from_left"),
    [
        ("Acme AG", "Acme AG"),
        ("\u05d0\u05d1\u05d2", "\u05d2\u05d1\u05d0"),
        ("\u05d0\u05d1 (\u05d2) 12", "12 (\u05d2) \u05d1\u05d0"),
        ("\u05d0\u05d1 (ABC) 1.5", "1.5 (ABC) \u05d1\u05d0"),
        ("Acme \u05d0\u05d1 AG", "Acme \u05d1\u05d0 AG"),
        ("x [\u05d0\u05d1] <y>", "x [\u05d1\u05d0] <y>"),
        # With points, which are left out.
        ("\u05d0\u05b7\u05d1", "\u05d1\u05d0"),
    ],
)
def test_hebrew_is_read_from_right_to_left_with_numbers_and_brackets_as_they_are(text: str, from_left: str) -> None:
    assert seen(text) == from_left


def test_arabic_letters_are_joined() -> None:
    # Sheen, reh, kaf, teh marbuta: initial, final, initial and final forms, from the right.
    assert seen("\u0634\u0631\u0643\u0629") == "\ufe94\ufedb\ufeae\ufeb7"
    # Lam and alef are one letter, and two with what keeps them apart.
    assert seen("\u0644\u0627") == "\ufefb"
    assert seen("\u0644\u200c\u0627") == "\ufe8d\ufedd"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Rocket \U0001f680", "Rocket \U0001f680"),
        # A family is three people, a thumb has the one colour that there is.
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f468\U0001f469\U0001f467"),
        ("\U0001f44d\U0001f3fd\u2764\ufe0f", "\U0001f44d\u2764"),
        ("Ελλάδα Київ Հայ", "Ελλάδα Київ Հայ"),
        ("北京", "BeiJing"),
        ("हिन्दी", "hindi"),
        ("a\u202eb\u200b\U000e0041c", "abc"),
        ("a\xadb\x7fc", "abc"),
        ("a\u2028b\u3000c", "a b c"),
        ("\ue000", "?"),
    ],
)
def test_what_no_font_has_is_written_in_latin_letters(text: str, shown: str) -> None:
    assert legible(text) == shown


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=60), st.sampled_from([REGULAR, BOLD]))
def test_every_letter_that_is_drawn_has_a_glyph(text: str, font: str) -> None:
    for line in wrapped(text, font, 8, 200):
        for name, run in lettering._runs(line, font):
            glyphs = pdfmetrics.getFont(name).face.charToGlyph
            assert [each for each in run if not glyphs.get(ord(each))] == []


def test_all_of_it_together_is_one_document_that_can_be_paid() -> None:
    names = ["مودل 🚀 gpt-5", "שלום עולם", "北京 हिन्दी", "🇨🇭 👨‍👩‍👧", "مرحبا بالعالم " * 30]
    recipient = Party("شركة الأمل (ش.م.م) 🌍", "רחוב הרצל 12", "8001", "Київ", "UA", "UA שלום")
    document = replace(of_lines(*(replace(LINE, description=name) for name in names)), recipient=recipient)
    drawn = draw_invoice(document)
    assert drawn == draw_invoice(document)
    content = with_einvoice(document, drawn)
    texts = page_texts(content)
    assert all(part in texts[0] for part in ("BeiJing hindi", "gpt-5"))
    (code,) = qr_codes(content)
    assert code == qr_bill_of(document).qr_data()
    # The banks take Latin letters alone, so the payer's name is written in these.
    name, street, house, place, city = code.split("\r\n")[21:26]
    assert name.isascii()
    assert name.endswith(" (sh.m.m)")
    assert (street.isascii(), house, place) == (True, "12", "8001")
    assert city.startswith("K")
