"""Accounts, and what belongs to their balances: grants, holds, marks to be published."""

import sqlalchemy as sa

from services.billing.tables.base import NOW, Id, Time, metadata

__all__ = ["accounts", "grants", "holds", "unpublished_balances"]

# Pool, member and contra accounts, in micro-CHF. Revenue has no row here, because every charge would lock it: it is the
# sum of the rollups. `rounding_remainder` is what all roundings so far have left over, an exact decimal in CHF.
accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("no", sa.BigInteger, sa.Identity(), nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("user_id", Id),
    sa.Column("balance", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("held", sa.BigInteger, nullable=False, server_default="0"),
    # How much of the balance are grants, of which something remains.
    sa.Column("granted", sa.BigInteger, nullable=False, server_default="0"),
    # How often `held` has changed; with `seq` it numbers what is published of the account.
    sa.Column("held_changes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("rounding_remainder", sa.Numeric, nullable=False, server_default="0"),
    sa.Column("seq", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("credit_limit", sa.BigInteger),
    # The balance right after the last credit (micro-CHF); the warning threshold is a percentage of it.
    sa.Column("balance_after_last_credit", sa.BigInteger, nullable=False, server_default="0"),
    # Whether the balance was at or under its warning threshold when it was last looked at, how often it has become so,
    # and when it last did; and when a mail about that was last due.
    sa.Column("low", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("crossings", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("last_warning_at", Time),
    sa.Column("last_warning_mail_at", Time),
    sa.Column("opening_credit_at", Time),
    # The opening credit that was given, in micro-CHF, possibly 0; the audit compares it with the ledger row.
    sa.Column("opening_credit", sa.BigInteger),
    sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("created_at", Time, nullable=False, server_default=NOW),
    sa.PrimaryKeyConstraint("mandate_no", "no"),
    sa.UniqueConstraint("mandate_no", "type", "user_id", postgresql_nulls_not_distinct=True),
    sa.Index("ix_accounts_no", "no"),
    sa.Index("ix_accounts_low", "mandate_no", "no", postgresql_where=sa.text("low")),
    sa.CheckConstraint("held >= 0", name="held"),
    sa.CheckConstraint("granted >= 0 AND granted <= greatest(balance, 0)", name="granted"),
    postgresql_with={"fillfactor": "50"},
)

# Budgets and promotions: what remains (micro-CHF) of what was given to an account, until a time or for good. A charge
# spends the grant that expires soonest; `transactions.grants` has every change, and `ledger/grants.py` the rules.
grants = sa.Table(
    "grants",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("no", sa.BigInteger, sa.Identity(), nullable=False),
    sa.Column("account_no", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("remaining", sa.BigInteger, nullable=False),
    # Whether anything remains: the indexes are of these, and what remains of one changes without touching them.
    sa.Column("open", sa.Boolean, nullable=False),
    sa.Column("granted_at", Time, nullable=False),
    sa.Column("expires_at", Time),
    # Where it came from, and goes when it expires.
    sa.Column("contra_account", sa.Text, nullable=False),
    sa.Column("reference_type", sa.Text, nullable=False),
    sa.Column("reference_id", sa.Text),
    sa.Column("description", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "no"),
    sa.CheckConstraint("kind IN ('BUDGET', 'PROMOTION')", name="kind"),
    sa.CheckConstraint("remaining >= 0 AND remaining <= amount", name="remaining"),
    sa.CheckConstraint("open = (remaining > 0)", name="open"),
    sa.Index("ix_grants_open", "mandate_no", "account_no", "expires_at", postgresql_where=sa.text("open")),
    sa.Index("ix_grants_due", "expires_at", postgresql_where=sa.text("open AND expires_at IS NOT NULL")),
    postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"},
)

# Amounts (micro-CHF) that are reserved for a member on `account_no` until they are settled: CAPTURED by usage (the
# event `settled_by`), VOIDED, or EXPIRED. `accounts.held` is the sum of the open ones. The id names the mandate
# (`ledger/domain.py`), so nothing has to be looked up to find a hold.
holds = sa.Table(
    "holds",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("id", sa.Uuid, nullable=False),
    sa.Column("account_no", sa.BigInteger, nullable=False),
    sa.Column("member_account_no", sa.BigInteger, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="OPEN"),
    # What it was asked for, as far as that was said; a capture by cost is booked under it.
    sa.Column("provider", sa.Text),
    sa.Column("model", sa.Text),
    sa.Column("feature_instance_id", sa.Text),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("expires_at", Time, nullable=False),
    sa.Column("settled_at", Time),
    sa.Column("settled_by", sa.Uuid),
    sa.PrimaryKeyConstraint("mandate_no", "id"),
    sa.CheckConstraint("amount >= 0", name="amount"),
    sa.CheckConstraint("state IN ('OPEN', 'CAPTURED', 'VOIDED', 'EXPIRED')", name="state"),
    sa.CheckConstraint(
        "(settled_at IS NOT NULL) = (state <> 'OPEN') AND (settled_by IS NOT NULL) = (state = 'CAPTURED')",
        name="settled",
    ),
    sa.CheckConstraint("expires_at > created_at", name="expiry"),
    # Those of one account that are due, which a check leaves out; and all that are due, for the job. Their conditions
    # say the same in different words, so that neither is taken for the other's statements, whatever the statistics.
    sa.Index("ix_holds_open", "mandate_no", "account_no", "expires_at", postgresql_where=sa.text("state = 'OPEN'")),
    sa.Index("ix_holds_due", "expires_at", postgresql_where=sa.text("settled_at IS NULL")),
    sa.Index(None, "mandate_no", "settled_by", postgresql_where=sa.text("settled_by IS NOT NULL")),
    postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"},
)

# Accounts whose balance or held amount has changed since it was last published: the outbox of balance.changed. Only the
# newest counts, so a row stands for the account, however often it changes.
unpublished_balances = sa.Table(
    "unpublished_balances",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("account_no", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "account_no"),
)
