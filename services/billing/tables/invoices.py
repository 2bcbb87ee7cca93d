"""Invoices of CREDIT_POSTPAY: what was used in that model, what of it was asked for, how it was paid."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from services.billing.tables.base import Id, Time, metadata

__all__ = [
    "invoice_documents",
    "invoice_lines",
    "invoice_payments",
    "invoice_series",
    "invoices",
    "postpay_spans",
    "vat_rates",
]

# When a mandate was in CREDIT_POSTPAY, in rows of its pool: those after `from_seq`, up to `to_seq`, which is null while
# it is. `closed_through` is the last day of the newest month that was looked at, whether or not it had an invoice, or
# that was over before; null for spans from before there were invoices.
postpay_spans = sa.Table(
    "postpay_spans",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("from_seq", sa.BigInteger, nullable=False),
    sa.Column("to_seq", sa.BigInteger),
    sa.Column("opened_at", Time, nullable=False),
    sa.Column("closed_at", Time),
    sa.Column("closed_through", sa.Date),
    sa.PrimaryKeyConstraint("mandate_no", "from_seq"),
    sa.CheckConstraint("(to_seq IS NULL) = (closed_at IS NULL)", name="closed"),
    # One that is open, for a mandate; and all that are, for the job.
    sa.Index(
        "uq_postpay_spans_open",
        "mandate_no",
        unique=True,
        postgresql_where=sa.text("to_seq IS NULL"),
    ),
)

# The last number of each year; its row is locked until the invoice is committed, so no number is left out.
invoice_series = sa.Table(
    "invoice_series",
    metadata,
    sa.Column("year", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("last", sa.BigInteger, nullable=False),
)

# Issued invoices (micro-CHF of whole Rappen). One has the rows of the pool up to `up_to_seq` and `through_day` that no
# earlier one of the mandate has. Never updated or deleted.
invoices = sa.Table(
    "invoices",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("series_year", sa.Integer, nullable=False),
    sa.Column("series_no", sa.BigInteger, nullable=False),
    sa.Column("number", sa.Text, nullable=False, unique=True),
    # First and last day of what it is for, in the mandate's calendar; late usage and corrections are older.
    sa.Column("period_start", sa.Date, nullable=False),
    sa.Column("period_end", sa.Date, nullable=False),
    sa.Column("up_to_seq", sa.BigInteger, nullable=False),
    sa.Column("through_day", sa.Date, nullable=False),
    # Before this row of the pool there is none that the next invoice could have.
    sa.Column("next_from_seq", sa.BigInteger, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("issued_at", Time, nullable=False),
    sa.Column("due_at", Time, nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("language", sa.Text, nullable=False),
    sa.Column("seller", JSONB, nullable=False),
    sa.Column("recipient", JSONB, nullable=False),
    # Null where no rate was in force for the recipient's country: then it has no VAT.
    sa.Column("vat_country", sa.Text),
    sa.Column("vat_percent", sa.Numeric, nullable=False),
    sa.Column("net", sa.BigInteger, nullable=False),
    sa.Column("vat", sa.BigInteger, nullable=False),
    sa.Column("total", sa.BigInteger, nullable=False),
    # What rounding to Rappen left over, before and after it (micro-CHF).
    sa.Column("carry_before", sa.BigInteger, nullable=False),
    sa.Column("carry_after", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("series_year", "series_no"),
    sa.UniqueConstraint("mandate_no", "up_to_seq", "through_day"),
    sa.CheckConstraint("cause IN ('MONTH', 'SWITCH')", name="cause"),
    sa.CheckConstraint("net + vat = total AND total >= 0", name="total"),
    sa.Index(None, "mandate_no", "issued_at"),
)

# Its lines: the exact cost (micro-CHF), and the amount of whole Rappen with and without VAT.
invoice_lines = sa.Table(
    "invoice_lines",
    metadata,
    sa.Column("invoice_id", sa.Uuid, sa.ForeignKey("invoices.id"), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("first_day", sa.Date, nullable=False),
    sa.Column("last_day", sa.Date, nullable=False),
    sa.Column("provider", sa.Text),
    sa.Column("model", sa.Text),
    sa.Column("feature_code", sa.Text),
    sa.Column("feature_instance_id", sa.Text),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("cost", sa.BigInteger, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("net", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("invoice_id", "position"),
    sa.CheckConstraint(
        "kind IN ('USAGE', 'STORAGE', 'CORRECTION', 'BUDGET', 'PROMOTION', 'CREDIT', 'BALANCE')", name="kind"
    ),
)

# What was paid of an invoice (micro-CHF), under the id of the payment's credit; what went back is negative.
invoice_payments = sa.Table(
    "invoice_payments",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("event_id", sa.Uuid, nullable=False),
    sa.Column("invoice_id", sa.Uuid, sa.ForeignKey("invoices.id"), nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("paid_at", Time, nullable=False),
    sa.Column("recorded_at", Time, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "event_id"),
    sa.Index(None, "invoice_id"),
)

# The PDF of an invoice as it was first given out, in each language: afterwards these bytes are the document.
invoice_documents = sa.Table(
    "invoice_documents",
    metadata,
    sa.Column("invoice_id", sa.Uuid, sa.ForeignKey("invoices.id"), nullable=False),
    sa.Column("language", sa.Text, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("made_at", Time, nullable=False),
    sa.PrimaryKeyConstraint("invoice_id", "language"),
)

# VAT in percent, by the country of the recipient, from a day on.
vat_rates = sa.Table(
    "vat_rates",
    metadata,
    sa.Column("country", Id, nullable=False),
    sa.Column("valid_from", sa.Date, nullable=False),
    sa.Column("percent", sa.Numeric, nullable=False),
    sa.PrimaryKeyConstraint("country", "valid_from"),
    sa.CheckConstraint("percent >= 0 AND percent < 100", name="percent"),
)
