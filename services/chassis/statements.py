"""Parts of statements that every service writes alike."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

__all__ = ["one_of"]


def one_of(column: sa.ColumnElement[Any], values: Collection[object]) -> sa.ColumnElement[bool]:
    """One parameter, however many values: a statement with a thousand of them takes long to be written."""
    return column == sa.any_(sa.literal(list(values), sa.ARRAY(column.type)))
