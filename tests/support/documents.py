"""What somebody sees on a PDF: its text, page by page, and the QR codes on it, read from the rendered pages."""

import pypdfium2
import zxingcpp

__all__ = ["page_texts", "qr_codes"]

# Twice the resolution of a screen, at which a telephone reads a code easily.
SCALE = 3


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
