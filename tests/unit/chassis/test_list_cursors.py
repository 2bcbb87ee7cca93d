"""What a cursor says is read again, whatever a list is sorted by."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from services.chassis.lists.cursors import cursor_of, read_cursor

# Of as many columns as a list is sorted by at most, and the two numbers of a row.
TYPES = [*[sa.Text()] * 10, sa.BigInteger(), sa.BigInteger()]


@pytest.mark.parametrize("letter", ["x", '"', "\U0001f600", "\x01"])
def test_the_longest_texts_that_rows_have_are_read_again(letter: str) -> None:
    place = [*[letter * 500] * 10, 2**62, 2**62]
    assert read_cursor(cursor_of("rows", place), "rows", TYPES) == place
