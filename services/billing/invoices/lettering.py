"""Text of others on paper: every letter has a glyph, Arabic letters are joined, and each line is in the order in which
one sees it.

What no font here has is written in Latin letters, so that a name can be read and none becomes a row of boxes.
"""

import unicodedata
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Final

from anyascii import anyascii
from arabic_reshaper import ArabicReshaper
from bidi import get_display
from bidi.mirror import MIRRORED
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

__all__ = ["BOLD", "REGULAR", "draw", "in_latin", "legible", "register_fonts", "wrapped"]

REGULAR: Final = "Invoice"
BOLD: Final = "Invoice-Bold"
_EMOJI: Final = "Invoice-Emoji"
_FILES: Final = {
    REGULAR: "DejaVuSansCondensed.ttf",
    BOLD: "DejaVuSansCondensed-Bold.ttf",
    _EMOJI: "NotoEmoji-Regular.ttf",
}
_RIGHT_TO_LEFT: Final = frozenset(("R", "AL"))
# What chooses how an emoji looks, such as its skin; a font of one colour has one look.
_LOOKS: Final = (range(0x1F3FB, 0x1F400), range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))
# Controls and what only says how others are to be shown.
_NO_LETTERS: Final = ("Cc", "Cf", "Zl", "Zp")
# Keeps two letters apart that would be joined, and has no width itself.
_APART: Final = "\u200c"
_UNKNOWN: Final = "?"
# It goes where the bracket before it goes; no legible text has one.
_MARK: Final = "\U000e0100"
_joined = ArabicReshaper().reshape


def register_fonts() -> None:
    """Makes the fonts known to the library; once a process."""
    folder = Path(__file__).parent / "fonts"
    for name, file in _FILES.items():
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, str(folder / file)))


def legible(text: str) -> str:
    """The text with letters alone that have a glyph, in the order in which it is read."""
    text = unicodedata.normalize("NFC", text)
    return text if _plain(text) else "".join(map(_legible, text))


def in_latin(each: str) -> str:
    """A letter or digit of whatever script in Latin letters; nothing for a sign."""
    return anyascii(each) if unicodedata.category(each)[0] in "LN" else ""


def _legible(each: str) -> str:
    if each == _APART or _is_drawn(each):
        return each
    category = unicodedata.category(each)
    if category.startswith("Z"):
        return " "
    if category in _NO_LETTERS or any(ord(each) in looks for looks in _LOOKS):
        return ""
    # A mark is part of the letter before it, which is written without.
    return anyascii(each) or ("" if category.startswith("M") else _UNKNOWN)


def draw(canvas: Canvas, x: float, y: float, text: str, *, font: str = REGULAR, size: float) -> None:
    """Draws a legible text in one line that begins at `x` (points)."""
    for name, run in _runs(text, font):
        canvas.setFont(name, size)
        canvas.drawString(x, y, run)
        x += canvas.stringWidth(run, name, size)


def wrapped(text: str, font: str, size: float, width: float) -> list[str]:
    """A text, made legible, in lines that fit, broken between words or, where one is too long, inside it."""
    lines = [""]
    for word in legible(text).split():
        for piece in _pieces(word, font, size, width):
            longer = f"{lines[-1]} {piece}".strip()
            if _width(longer, font, size) <= width:
                lines[-1] = longer
            else:
                lines.append(piece)
    return [line for line in lines if line] or [""]


def _pieces(word: str, font: str, size: float, width: float) -> list[str]:
    if _width(word, font, size) <= width:
        return [word]
    pieces = [""]
    for each in word:
        if _width(pieces[-1] + each, font, size) > width:
            pieces.append("")
        pieces[-1] += each
    return pieces


def _width(text: str, font: str, size: float) -> float:
    return sum(float(pdfmetrics.stringWidth(run, name, size)) for name, run in _runs(text, font))


def _runs(text: str, font: str) -> list[tuple[str, str]]:
    """Parts of one font each, from left to right."""
    if _plain(text):
        return [(font, text)]
    shown = text
    if any(unicodedata.bidirectional(each) in _RIGHT_TO_LEFT for each in text):
        # Points and vowels are left out, as they usually are; a joined form that the font lacks is written by itself.
        letters = _joined("".join(each for each in text if unicodedata.category(each) != "Mn"))
        shown = _in_order("".join(each if _font_of(each, font) else _by_itself(each) for each in letters))
    parts = groupby(shown.replace(_APART, ""), key=lambda each: _font_of(each, font) or font)
    return [(name, "".join(letters)) for name, letters in parts]


def _by_itself(joined: str) -> str:
    return unicodedata.normalize("NFKC", joined)


def _in_order(text: str) -> str:
    """From left to right, as one sees it. The library reorders, and turns no bracket round: it shows which are to be
    turned by where it puts the mark behind each."""
    marked = "".join(each + _MARK if each in MIRRORED else each for each in text)
    shown = []
    letters = iter(get_display(marked))
    for each in letters:
        if each == _MARK:
            shown.append(MIRRORED[next(letters)])
            continue
        shown.append(each)
        if each in MIRRORED:
            next(letters)
    return "".join(shown)


def _plain(text: str) -> bool:
    """Whether the main fonts have all of it, from left to right: most texts."""
    return all(" " <= each < "\u0250" and _is_drawn(each) for each in text)


@lru_cache(4096)
def _is_drawn(each: str) -> bool:
    """Whether it is a letter or sign with a glyph in either weight."""
    if unicodedata.category(each) in _NO_LETTERS or any(ord(each) in looks for looks in _LOOKS):
        return False
    return None not in (_font_of(each, REGULAR), _font_of(each, BOLD))


@lru_cache(4096)
def _font_of(each: str, font: str) -> str | None:
    """Which font has a glyph for it: the one asked for, else that of emoji; None where none has."""
    for name in (font, _EMOJI):
        if ord(each) in pdfmetrics.getFont(name).face.charToGlyph:
            return name
    return None
