"""Monthly invoices as Stripe has them, as the migrations make the table."""

import sqlalchemy as sa

from services.chassis.migrations import service_metadata

__all__ = ["invoices"]

_Id = sa.Text(collation="C")
_Time = sa.DateTime(timezone=True)

invoices = sa.Table(
    "invoices",
    service_metadata("payments"),
    sa.Column("invoice_id", sa.Uuid, primary_key=True),
    sa.Column("mandate_id", _Id, nullable=False),
    sa.Column("number", sa.Text, nullable=False),
    sa.Column("total", sa.Numeric(24, 6), nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("stripe_invoice_id", _Id, unique=True),
    sa.Column("hosted_url", sa.Text),
    sa.Column("created_at", _Time, nullable=False),
)
