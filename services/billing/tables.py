"""The tables of the schema `billing`, as the migrations make them.

Amounts of type BigInteger are whole micro-CHF (a millionth of a franc); a Numeric is an exact decimal in the unit that
its name or comment gives (CHF, percent, CHF for one unit of a currency). Every table of the ledger has the mandate's
narrow key, so the ledger can be spread by mandate. Text ids are compared byte by byte (collation C).
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from services.chassis.dead_letter_limit import stopped_consumers_table
from services.chassis.migrations import service_metadata
from services.chassis.outbox import outbox_table
from services.chassis.quarantine import quarantine_table

__all__ = [
    "accounts",
    "audit_log",
    "cancellations",
    "dimensions",
    "directory_mandates",
    "directory_members",
    "directory_users",
    "grants",
    "holds",
    "kept_answers",
    "limit_costs",
    "limits",
    "mandate_subscriptions",
    "mandates",
    "metadata",
    "outbox",
    "payment_credits",
    "price_book",
    "prices",
    "promotion_redemptions",
    "promotions",
    "provider_permissions",
    "quarantine",
    "rates",
    "rollups",
    "stopped_consumers",
    "subscription_budgets",
    "transactions",
    "unposted_events",
    "unpublished_balances",
]

metadata = service_metadata("billing")

_Id = sa.Text(collation="C")
_Time = sa.DateTime(timezone=True)
_now = sa.text("now()")

# A mandate (tenant) that has money or settings here: its narrow key, its settings (amounts in micro-CHF) and the terms
# of its plan.
mandates = sa.Table(
    "mandates",
    metadata,
    sa.Column("no", sa.Integer, sa.Identity(), primary_key=True),
    sa.Column("id", _Id, nullable=False, unique=True),
    sa.Column("billing_model", sa.Text, nullable=False, server_default="PREPAY_MANDATE"),
    sa.Column("default_user_credit", sa.BigInteger, nullable=False, server_default="10000000"),
    sa.Column("warning_threshold_percent", sa.Numeric, nullable=False, server_default="10"),
    sa.Column("block_on_zero_balance", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("billing_address", JSONB),
    sa.Column("notify_emails", ARRAY(sa.Text), nullable=False, server_default="{}"),
    sa.Column("notify_on_warning", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("auto_recharge_enabled", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("recharge_amount", sa.BigInteger, nullable=False, server_default="10000000"),
    sa.Column("recharge_max_per_month", sa.Integer, nullable=False, server_default="3"),
    sa.Column("markup_percent", sa.Numeric),
    sa.Column("time_zone", sa.Text, nullable=False, server_default="Europe/Zurich"),
    # Zones that held before, oldest first: [[until, zone], ...]; a new one counts from the next month on.
    sa.Column("past_time_zones", JSONB, nullable=False, server_default="[]"),
    sa.Column("late_events", sa.Text, nullable=False, server_default="own"),
    sa.Column("late_event_days", sa.Integer, nullable=False, server_default="0"),
    # The terms of the subscription in force, out of `mandate_subscriptions`; null means that there never was one.
    sa.Column("subscription_id", sa.Uuid),
    sa.Column("subscription_version", sa.BigInteger),
    sa.Column("subscription_operative", sa.Boolean),
    sa.Column("plan_key", sa.Text),
    sa.Column("plan_markup_percent", sa.Numeric),
    # Whether any usage of it was claimed without a posting, so that new usage has to be looked up among that.
    sa.Column("has_unposted", sa.Boolean, nullable=False, server_default=sa.false()),
    # Whether any usage of it was cancelled, so that new usage has to be looked up among that.
    sa.Column("has_cancellations", sa.Boolean, nullable=False, server_default=sa.false()),
    # Grows with every change of what charges are priced by (model, markup, time zone, late events, `has_unposted`,
    # `has_cancellations`), so that a charge can tell that its terms are still those it priced by; other settings do not
    # disturb it.
    sa.Column("pricing_version", sa.BigInteger, nullable=False, server_default="0"),
    # The first day whose costs are kept for its limits (`limit_costs`); null where it has none.
    sa.Column("limits_since", sa.Date),
    sa.Column("created_at", _Time, nullable=False, server_default=_now),
    # So that a charge of mandates without limits looks for those with them in an index that is empty.
    sa.Index("ix_mandates_limits_since", "no", postgresql_where=sa.text("limits_since IS NOT NULL")),
)

# Each subscription as its newest event describes it. Which of them is in force for the mandate follows from these rows
# alone, so it does not depend on the order in which the events arrived.
mandate_subscriptions = sa.Table(
    "mandate_subscriptions",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("subscription_id", sa.Uuid, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("operative", sa.Boolean, nullable=False),
    sa.Column("was_operative", sa.Boolean, nullable=False),
    sa.Column("plan_key", sa.Text, nullable=False),
    sa.Column("markup_percent", sa.Numeric),
    sa.Column("changed_at", _Time, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "subscription_id"),
)

# Pool, member and contra accounts, in micro-CHF. Revenue has no row here, because every charge would lock it: it is the
# sum of the rollups. `rounding_remainder` is what all roundings so far have left over, an exact decimal in CHF.
accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("no", sa.BigInteger, sa.Identity(), nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("user_id", _Id),
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
    sa.Column("last_warning_at", _Time),
    sa.Column("opening_credit_at", _Time),
    # The opening credit that was given, in micro-CHF, possibly 0; the audit compares it with the ledger row.
    sa.Column("opening_credit", sa.BigInteger),
    sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("created_at", _Time, nullable=False, server_default=_now),
    sa.PrimaryKeyConstraint("mandate_no", "no"),
    sa.UniqueConstraint("mandate_no", "type", "user_id", postgresql_nulls_not_distinct=True),
    sa.Index("ix_accounts_no", "no"),
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
    sa.Column("granted_at", _Time, nullable=False),
    sa.Column("expires_at", _Time),
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
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("expires_at", _Time, nullable=False),
    sa.Column("settled_at", _Time),
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
    sa.Column("occurred_at", _Time, nullable=False),
    sa.Column("recorded_at", _Time, nullable=False),
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
    sa.Index("ix_transactions_mandate_no_occurred_at", "mandate_no", "occurred_at"),
    sa.CheckConstraint("amount >= 0 OR transaction_type = 'ADJUSTMENT'", name="amount"),
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
    sa.PrimaryKeyConstraint("mandate_no", "no"),
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

# How much may be spent inside a mandate in a day or a month (micro-CHF) by a member, for a feature instance, or at a
# provider or a model; `key` is their id or name. `held` is the sum of the open holds that count towards it.
limits = sa.Table(
    "limits",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("key", _Id, nullable=False),
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
    sa.Column("key", _Id, nullable=False),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("cost", sa.Numeric, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "kind", "key", "day"),
    postgresql_with={"fillfactor": "70"},
)

# Events that were claimed without a posting: usage that is FREE (it cost nothing), usage that is parked because a price
# or rate is missing or was CANCELLED while it was, payments (`own`) that wait for a rate, and the events by which usage
# was cancelled (CANCELLATION). All but FREE, CANCELLED and CANCELLATION wait.
unposted_events = sa.Table(
    "unposted_events",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("event_id", sa.Uuid, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("currency", sa.Text),
    sa.Column("provider", sa.Text),
    sa.Column("model", sa.Text),
    sa.Column("occurred_at", _Time, nullable=False),
    sa.Column("recorded_at", _Time, nullable=False),
    # The whole event of a parked one, null where nothing waits.
    sa.Column("event", sa.Text),
    sa.Column("price_revision", sa.BigInteger, nullable=False),
    sa.Column("own", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.PrimaryKeyConstraint("mandate_no", "event_id", "own"),
    sa.Index(
        "ix_unposted_events_parked",
        "price_revision",
        postgresql_where=sa.text("reason NOT IN ('FREE', 'CANCELLED', 'CANCELLATION')"),
    ),
)

# Usage events that were cancelled, also before they arrived, each with the first reason that was given and the system
# administrator who did it (null for a publisher). A row is never updated or deleted: the usage that it names is taken
# back once it is charged, and is never priced while it is not.
cancellations = sa.Table(
    "cancellations",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("event_id", sa.Uuid, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("cancelled_by_user_id", sa.Text),
    sa.Column("cancelled_at", _Time, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "event_id"),
)

# Versions of prices, in the form of `pricing`; a correction is a new version, never an edit.
prices = sa.Table(
    "prices",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("valid_from", _Time, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("created_by_user_id", sa.Text),
    sa.Column("created_at", _Time, nullable=False, server_default=_now),
    # Why this version cannot price anything; null where the migrations found no fault.
    sa.Column("set_aside", sa.Text),
)

# Exchange rates: CHF for one unit of a currency, from a time on.
rates = sa.Table(
    "rates",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("valid_from", _Time, nullable=False),
    sa.Column("rate", sa.Numeric, nullable=False),
    sa.Column("created_by_user_id", sa.Text),
    sa.Column("created_at", _Time, nullable=False, server_default=_now),
    sa.Column("set_aside", sa.Text),
)

# One row: the revision that every change of prices or rates raises, read by each batch.
price_book = sa.Table(
    "price_book",
    metadata,
    sa.Column("one", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.Column("revision", sa.BigInteger, nullable=False),
)

# Budgets that were credited, one per subscription and period; the amount in micro-CHF.
subscription_budgets = sa.Table(
    "subscription_budgets",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("subscription_id", sa.Uuid, nullable=False),
    sa.Column("period_start", _Time, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("credited_at", _Time, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "subscription_id", "period_start"),
)

# Promotions: credit (micro-CHF) that expires, for one mandate, or for each that redeems the code.
promotions = sa.Table(
    "promotions",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("mandate_no", sa.Integer),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("expires_at", _Time, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("code", _Id, unique=True),
    sa.Column("created_by_user_id", sa.Text, nullable=False),
    sa.Column("created_at", _Time, nullable=False),
    sa.CheckConstraint("amount > 0", name="amount"),
    sa.CheckConstraint("mandate_no IS NOT NULL OR code IS NOT NULL", name="receiver"),
)

# Which mandates were granted which promotions, each once.
promotion_redemptions = sa.Table(
    "promotion_redemptions",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("promotion_id", sa.Uuid, sa.ForeignKey("promotions.id"), nullable=False),
    sa.Column("redeemed_by_user_id", sa.Text, nullable=False),
    sa.Column("redeemed_at", _Time, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "promotion_id"),
)

# Payments that were credited, under the id of their (first) row, with the amount in micro-CHF; the digest distinguishes
# a repeat from a conflict, and is null for payments from before it was kept.
payment_credits = sa.Table(
    "payment_credits",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("event_id", sa.Uuid, nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.LargeBinary),
    sa.Column("credited_at", _Time, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "event_id"),
)

# Who changed settings, credit and accounts, from what to what.
audit_log = sa.Table(
    "audit_log",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("mandate_no", sa.Integer),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("before", JSONB),
    sa.Column("after", JSONB),
    sa.Column("at", _Time, nullable=False),
)

# The answers to changes with an idempotency key; a repeat gets the stored one.
kept_answers = sa.Table(
    "kept_answers",
    metadata,
    sa.Column("mandate_no", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("action", sa.Text, primary_key=True),
    sa.Column("actor", sa.Text, primary_key=True),
    sa.Column("idempotency_key", _Id, primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("answer", JSONB),
    sa.Column("at", _Time, nullable=False),
)

directory_mandates = sa.Table(
    "directory_mandates",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("name", sa.Text),
    sa.Column("label", sa.Text),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("is_system", sa.Boolean, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)

directory_users = sa.Table(
    "directory_users",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("username", sa.Text),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)

directory_members = sa.Table(
    "directory_members",
    metadata,
    sa.Column("mandate_id", _Id, nullable=False),
    sa.Column("user_id", _Id, nullable=False),
    sa.Column("roles", ARRAY(sa.Text), nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("mandate_id", "user_id"),
    sa.Index("ix_directory_members_user_id", "user_id"),
)

provider_permissions = sa.Table(
    "provider_permissions",
    metadata,
    sa.Column("mandate_id", _Id, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    # Null after a row was taken away again: the platform's default holds.
    sa.Column("providers", ARRAY(sa.Text)),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("mandate_id", "role"),
)

outbox = outbox_table(metadata)
quarantine = quarantine_table(metadata)
stopped_consumers = stopped_consumers_table(metadata)
