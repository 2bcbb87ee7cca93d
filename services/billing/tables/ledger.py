"""The ledger: rows, what they were for, sums of them, limits on those sums, sealed days."""

import sqlalchemy as sa

from services.billing.tables.base import Id, Time, metadata

__all__ = [
    "closed_days",
    "dimensions",
    "limit_costs",
    "limits",
    "rollup_sums",
    "rollups",
    "sealed_days",
    "transactions",
    "usage_descriptions",
    "workflow_blocks",
]

# The ledger, in micro-CHF. A row moves `amount` between the account `posted_account_no` and the mandate's account of
# the type `contra_account`; `member_account_no` is the member it is about, or the posted account. A row is never
# updated or deleted. The key is the identity of the event that caused it, which is what makes a charge happen once;
# `own` keeps the ids that are made here apart from those that publishers choose.
transactions = sa.Table(
    "transactions",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("event_id", sa.Uuid, nullable=False),
    sa.Column("member_account_no", sa.BigInteger, nullable=False),
    sa.Column("posted_account_no", sa.BigInteger, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("transaction_type", sa.Text, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("balance_after", sa.BigInteger, nullable=False),
    sa.Column("contra_account", sa.Text, nullable=False),
    sa.Column("reference_type", sa.Text, nullable=False),
    sa.Column("reference_id", sa.Text),
    sa.Column("description", sa.Text),
    sa.Column("occurred_at", Time, nullable=False),
    sa.Column("recorded_at", Time, nullable=False),
    sa.Column("period_day", sa.Date, nullable=False),
    sa.Column("dimension_no", sa.Integer),
    sa.Column("workflow_id", sa.Text),
    sa.Column("created_by_user_id", sa.Text),
    sa.Column("processing_time_ms", sa.BigInteger),
    sa.Column("bytes_sent", sa.BigInteger),
    sa.Column("bytes_received", sa.BigInteger),
    sa.Column("error_count", sa.BigInteger),
    sa.Column("input_tokens", sa.BigInteger),
    sa.Column("output_tokens", sa.BigInteger),
    sa.Column("derivation", sa.Text),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("own", sa.Boolean, nullable=False, server_default=sa.false()),
    # How the row changed the grants of its account, as `number:micro-CHF` one after the other; null where it did not.
    sa.Column("grants", sa.Text),
    sa.PrimaryKeyConstraint("mandate_no", "event_id", "own"),
    sa.UniqueConstraint("mandate_no", "posted_account_no", "seq"),
    # Lists find plain charges without reading the rows.
    sa.Index(
        "ix_transactions_in_time",
        "mandate_no",
        "occurred_at",
        "posted_account_no",
        "seq",
        postgresql_include=["member_account_no", "dimension_no", "amount"],
    ),
    # All rows but plain charges, which are counted by the rollups (`reports/plain_charges.py`).
    sa.Index(
        "ix_transactions_others",
        "mandate_no",
        "occurred_at",
        "posted_account_no",
        "seq",
        postgresql_where=sa.text(
            "contra_account <> 'REVENUE' OR transaction_type <> 'DEBIT' OR reference_type <> 'WORKFLOW'"
            " OR reference_id IS NOT NULL OR created_by_user_id IS NOT NULL"
        ),
    ),
    sa.Index("ix_transactions_recorded_at", "recorded_at", postgresql_using="brin"),
    # What takes charges back, by the charge.
    sa.Index(
        "ix_transactions_corrections",
        "mandate_no",
        "reference_id",
        postgresql_where=sa.text("own AND contra_account = 'REVENUE'"),
    ),
    sa.CheckConstraint("amount >= 0 OR transaction_type = 'ADJUSTMENT'", name="amount"),
)

# The workflows of the rows of an account's chain from one number to another: each id once, a line each. No two blocks
# of an account overlap, and each row with a workflow is in one (`ledger/workflow_blocks.py`).
workflow_blocks = sa.Table(
    "workflow_blocks",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("account_no", sa.BigInteger, nullable=False),
    sa.Column("first_seq", sa.BigInteger, nullable=False),
    sa.Column("last_seq", sa.BigInteger, nullable=False),
    sa.Column("workflow_ids", Id, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "account_no", "first_seq"),
)

# What usage was for, once per combination, so that ledger and rollups have one number instead of four texts.
dimensions = sa.Table(
    "dimensions",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("no", sa.Integer, sa.Identity(), nullable=False),
    sa.Column("provider", sa.Text),
    sa.Column("model", sa.Text),
    sa.Column("feature_code", sa.Text),
    sa.Column("feature_instance_id", sa.Text),
    # In this order, so that whoever looks for a name can only use the index of names, whatever the statistics.
    sa.PrimaryKeyConstraint("no", "mandate_no"),
    sa.UniqueConstraint(
        "mandate_no",
        "provider",
        "model",
        "feature_code",
        "feature_instance_id",
        name="uq_dimensions_names",
        postgresql_nulls_not_distinct=True,
    ),
)

# The descriptions that charges of usage of a dimension have, empty for none; null where they are more than are kept
# (`ledger/descriptions.py`).
usage_descriptions = sa.Table(
    "usage_descriptions",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("dimension_no", sa.Integer, nullable=False),
    sa.Column("description", sa.Text),
    sa.UniqueConstraint(
        "mandate_no",
        "dimension_no",
        "description",
        name="uq_usage_descriptions",
        postgresql_nulls_not_distinct=True,
    ),
)

# Cost (micro-CHF) and count of each member, day (in the mandate's time zone) and dimension, in step with the ledger.
rollups = sa.Table(
    "rollups",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("member_account_no", sa.BigInteger, nullable=False),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("dimension_no", sa.Integer, nullable=False),
    sa.Column("cost", sa.BigInteger, nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "member_account_no", "day", "dimension_no"),
    postgresql_with={"fillfactor": "70"},
)

# Sums of the rollups over members, by day and by calendar month, of the days up to `mandates.summed_until`, in step
# with them (`ledger/rollup_sums.py`). A sum of all members may be more than 64 bits hold.
rollup_sums = sa.Table(
    "rollup_sums",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("period", sa.Text, nullable=False),
    sa.Column("first_day", sa.Date, nullable=False),
    sa.Column("dimension_no", sa.Integer, nullable=False),
    sa.Column("cost", sa.Numeric, nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "period", "first_day", "dimension_no"),
    sa.CheckConstraint("period IN ('day', 'month')", name="period"),
    postgresql_with={"fillfactor": "70"},
)

# How much may be spent inside a mandate in a day or a month (micro-CHF) by a member, for a feature instance, or at a
# provider or a model; `key` is their id or name. `held` is the sum of the open holds that count towards it.
limits = sa.Table(
    "limits",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("key", Id, nullable=False),
    sa.Column("period", sa.Text, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("held", sa.Numeric, nullable=False, server_default="0"),
    sa.PrimaryKeyConstraint("mandate_no", "kind", "key", "period"),
    sa.CheckConstraint("kind IN ('member', 'feature', 'provider', 'model')", name="kind"),
    sa.CheckConstraint("period IN ('day', 'month')", name="period"),
    sa.CheckConstraint("amount >= 0", name="amount"),
    postgresql_with={"fillfactor": "70"},
)

# Sums of the rollups (micro-CHF) by what is limited and day, from `mandates.limits_since` on, in step with them: a
# check reads a row a day, however many members and dimensions the mandate has. A sum of all members may be more than 64
# bits hold.
limit_costs = sa.Table(
    "limit_costs",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("key", Id, nullable=False),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("cost", sa.Numeric, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "kind", "key", "day"),
    postgresql_with={"fillfactor": "70"},
)

# Up to each of these days (UTC) nothing is recorded in the ledger any more (`ledger/closed_days.py`).
closed_days = sa.Table(
    "closed_days",
    metadata,
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("closed_at", Time, nullable=False),
)

# The digests of the days of the ledger, each over the rows that were recorded on it and the digest of the day sealed
# before (`ledger/day_digests.py`). A day without a seal before the last sealed one has no rows. Never updated or
# deleted.
sealed_days = sa.Table(
    "sealed_days",
    metadata,
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("form", sa.Integer, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("previous_digest", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("sealed_at", Time, nullable=False),
)
