"""Prices and rates."""

import sqlalchemy as sa

from services.billing.tables.base import NOW, Time, metadata

__all__ = ["price_book", "prices", "rates"]

# Versions of prices, in the form of `pricing`; a correction is a new version, never an edit.
prices = sa.Table(
    "prices",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("valid_from", Time, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("created_by_user_id", sa.Text),
    sa.Column("created_at", Time, nullable=False, server_default=NOW),
    # Why this version cannot price anything; null where the migrations found no fault.
    sa.Column("set_aside", sa.Text),
)

# Exchange rates: CHF for one unit of a currency, from a time on.
rates = sa.Table(
    "rates",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("valid_from", Time, nullable=False),
    sa.Column("rate", sa.Numeric, nullable=False),
    sa.Column("created_by_user_id", sa.Text),
    sa.Column("created_at", Time, nullable=False, server_default=NOW),
    sa.Column("set_aside", sa.Text),
)

# One row: the revision that every change of prices or rates raises, read by each batch.
price_book = sa.Table(
    "price_book",
    metadata,
    sa.Column("one", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.Column("revision", sa.BigInteger, nullable=False),
)
