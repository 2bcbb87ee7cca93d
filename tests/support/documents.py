"""What somebody sees on a PDF: its text, page by page, and the QR codes on it, read from the rendered pages."""

from itertools import combinations

import pypdfium2
import zxingcpp

__all__ = ["page_texts", "qr_codes", "written_over"]

# Twice the resolution of a screen, at which a telephone reads a code easily.
SCALE = 3
# Boxes of letters that stand close touch each other by less (points).
TOUCHING = 1.0


def page_texts(content: bytes) -> list[str]:
    """The text of each page."""
    document = pypdfium2.PdfDocument(content)
    try:
        return [page.get_textpage().get_text_range() for page in document]
    finally:
        document.close()


def qr_codes(content: bytes) -> list[str]:
    """What the QR codes say, in the order of the pages."""
    document = pypdfium2.PdfDocument(content)
    try:
        images = [page.render(scale=SCALE).to_pil() for page in document]
    finally:
        document.close()
    found = [code for image in images for code in zxingcpp.read_barcodes(image)]
    return [code.text for code in found if code.format == zxingcpp.BarcodeFormat.QRCode]


def written_over(content: bytes) -> list[str]:
    """The texts that are written over others, or run over the edge of their page."""
    document = pypdfium2.PdfDocument(content)
    try:
        return [text for page in document for text in _written_over(page)]
    finally:
        document.close()


def _written_over(page: pypdfium2.PdfPage) -> list[str]:
    text = page.get_textpage()
    boxes = [text.get_rect(number) for number in range(text.count_rects())]
    width, height = page.get_size()
    outside = {each for each in boxes if each[0] < 0 or each[1] < 0 or each[2] > width or each[3] > height}
    over = {
        one
        for one, other in combinations(boxes, 2)
        if min(one[2], other[2]) - max(one[0], other[0]) > TOUCHING
        and min(one[3], other[3]) - max(one[1], other[1]) > TOUCHING
    }
    return [text.get_text_bounded(*each) for each in outside | over]
