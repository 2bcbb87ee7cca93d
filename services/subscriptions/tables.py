"""The tables of the schema `subscriptions`, as the migrations make them. Text ids are compared byte by byte (C)."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from services.chassis.dead_letter_limit import stopped_consumers_table
from services.chassis.migrations import service_metadata
from services.chassis.outbox import outbox_table
from services.chassis.quarantine import quarantine_table

__all__ = [
    "activations",
    "directory_feature_access",
    "directory_feature_instances",
    "directory_fillings",
    "directory_mandates",
    "directory_members",
    "directory_users",
    "given_budgets",
    "metadata",
    "outbox",
    "paid_periods",
    "personal_mandates",
    "quantities",
    "quarantine",
    "removals",
    "stopped_consumers",
    "stripe_facts",
    "stripe_requests",
    "subscriptions",
    "transitions",
    "trial_reminders",
    "trials",
]

metadata = service_metadata("subscriptions")

_Id = sa.Text(collation="C")
_Time = sa.DateTime(timezone=True)

# A subscription as it is now. `terms` are the plan's at the start of the period, so a changed catalogue changes no
# period that runs. `due_at` is when our own clock ends or renews it, `settle_at` when a wait is over.
subscriptions = sa.Table(
    "subscriptions",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("mandate_id", _Id, nullable=False),
    sa.Column("plan_key", _Id, nullable=False),
    sa.Column("terms", JSONB, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("effective_from", _Time),
    sa.Column("period_start", _Time),
    sa.Column("period_end", _Time),
    sa.Column("trial_ends_at", _Time),
    sa.Column("grace_ends_at", _Time),
    sa.Column("recurring", sa.Boolean, nullable=False),
    sa.Column("due_at", _Time),
    sa.Column("created_by", _Id, nullable=False),
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("starts_at", _Time),
    sa.Column("settle_at", _Time),
    sa.Index("ix_subscriptions_mandate_id_created_at", "mandate_id", "created_at"),
    # One operative subscription per mandate, whatever the service does.
    sa.Index(
        "uq_subscriptions_operative",
        "mandate_id",
        unique=True,
        postgresql_where=sa.text("state IN ('TRIALING', 'ACTIVE', 'PAST_DUE', 'CANCELED')"),
    ),
    sa.Index("ix_subscriptions_due_at", "due_at", postgresql_where=sa.text("due_at IS NOT NULL")),
    sa.Index("ix_subscriptions_settle_at", "settle_at", postgresql_where=sa.text("settle_at IS NOT NULL")),
    sa.Index("ix_subscriptions_trial_ends_at", "trial_ends_at", postgresql_where=sa.text("state = 'TRIALING'")),
)

# Every transition and renewal, for ever: the application role can only add. A null actor is the platform itself.
transitions = sa.Table(
    "transitions",
    metadata,
    sa.Column("subscription_id", sa.Uuid, sa.ForeignKey(subscriptions.c.id), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("from_state", sa.Text),
    sa.Column("to_state", sa.Text, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("actor", _Id),
    sa.Column("occurred_at", _Time, nullable=False),
    sa.Column("recorded_at", _Time, nullable=False),
    sa.PrimaryKeyConstraint("subscription_id", "version"),
)

# Who had a trial: a mandate once, a user once. A trial that the operator gave is no user's, so its user is null.
trials = sa.Table(
    "trials",
    metadata,
    sa.Column("mandate_id", _Id, primary_key=True),
    sa.Column("user_id", _Id, unique=True),
    sa.Column("subscription_id", sa.Uuid, sa.ForeignKey(subscriptions.c.id), nullable=False),
    sa.Column("started_at", _Time, nullable=False),
)

# What is known of a record at Stripe; there also before the record is, where that comes later. `applied` is false until
# the record was brought to it.
stripe_facts = sa.Table(
    "stripe_facts",
    metadata,
    sa.Column("subscription_id", sa.Uuid, primary_key=True),
    sa.Column("mandate_id", _Id, nullable=False),
    sa.Column("checkout_version", sa.BigInteger, nullable=False),
    sa.Column("checkout", JSONB),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("subscription", JSONB),
    sa.Column("observed_at", _Time),
    sa.Column("paid_up_version", sa.BigInteger, nullable=False),
    sa.Column("past_due", JSONB, nullable=False),
    sa.Column("applied", sa.Boolean, nullable=False),
    sa.Index("ix_stripe_facts_mandate_id", "mandate_id", postgresql_where=sa.text("NOT applied")),
)

# Periods whose invoice is paid, for ever: the application role can only add.
paid_periods = sa.Table(
    "paid_periods",
    metadata,
    sa.Column("subscription_id", sa.Uuid, nullable=False),
    sa.Column("period_start", _Time, nullable=False),
    sa.Column("period_end", _Time, nullable=False),
    sa.Column("stripe_invoice_id", _Id, nullable=False),
    sa.PrimaryKeyConstraint("subscription_id", "period_start"),
)

# Periods whose budget was told to be due, with the version that said so: once each, whatever is told of them.
given_budgets = sa.Table(
    "given_budgets",
    metadata,
    sa.Column("subscription_id", sa.Uuid, sa.ForeignKey(subscriptions.c.id), nullable=False),
    sa.Column("period_start", _Time, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("subscription_id", "period_start"),
)

# What payments was asked to do at Stripe, and what became of it.
stripe_requests = sa.Table(
    "stripe_requests",
    metadata,
    sa.Column("request_id", sa.Uuid, primary_key=True),
    sa.Column("subscription_id", sa.Uuid, sa.ForeignKey(subscriptions.c.id), nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("return_url", sa.Text),
    sa.Column("outcome", sa.Text),
    sa.Column("code", sa.Text),
    sa.Column("redirect_url", sa.Text),
    sa.Column("requested_at", _Time, nullable=False),
    sa.Column("settled_at", _Time),
    sa.Index("ix_stripe_requests_subscription_id", "subscription_id"),
    sa.CheckConstraint("action IN ('checkout', 'end_at_period_end', 'resume', 'cancel', 'begin')", name="action"),
    sa.CheckConstraint("outcome IN ('done', 'refused', 'expired')", name="outcome"),
)

# What a subscription is charged for at Stripe, as far as known, and what was last asked to be. `check_at` is when that
# is looked at again; null while both agree.
quantities = sa.Table(
    "quantities",
    metadata,
    sa.Column("subscription_id", sa.Uuid, sa.ForeignKey(subscriptions.c.id), primary_key=True),
    sa.Column("mandate_id", _Id, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("live", sa.Boolean, nullable=False),
    sa.Column("requested_members", sa.Integer),
    sa.Column("requested_feature_instances", sa.Integer),
    sa.Column("requested_at", _Time),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("charged_members", sa.Integer),
    sa.Column("charged_feature_instances", sa.Integer),
    sa.Column("check_at", _Time),
    sa.Column("held_until", _Time),
    sa.Index("ix_quantities_mandate_id", "mandate_id"),
    sa.Index("ix_quantities_check_at", "check_at", postgresql_where=sa.text("check_at IS NOT NULL")),
)

# Of which trials it was said that they end, and how many days before: once each.
trial_reminders = sa.Table(
    "trial_reminders",
    metadata,
    sa.Column("subscription_id", sa.Uuid, sa.ForeignKey(subscriptions.c.id), nullable=False),
    sa.Column("days_left", sa.Integer, nullable=False),
    sa.Column("reminded_at", _Time, nullable=False),
    sa.PrimaryKeyConstraint("subscription_id", "days_left"),
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

directory_members = sa.Table(
    "directory_members",
    metadata,
    sa.Column("mandate_id", _Id, nullable=False),
    sa.Column("user_id", _Id, nullable=False),
    sa.Column("roles", ARRAY(sa.Text), nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("mandate_id", "user_id"),
)

directory_feature_instances = sa.Table(
    "directory_feature_instances",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("mandate_id", _Id, nullable=False),
    sa.Column("feature_code", sa.Text, nullable=False),
    sa.Column("label", sa.Text),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Index("ix_directory_feature_instances_mandate_id", "mandate_id"),
)

directory_feature_access = sa.Table(
    "directory_feature_access",
    metadata,
    sa.Column("instance_id", _Id, nullable=False),
    sa.Column("user_id", _Id, nullable=False),
    sa.Column("mandate_id", _Id, nullable=False),
    sa.Column("roles", ARRAY(sa.Text), nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("instance_id", "user_id"),
    sa.Index("ix_directory_feature_access_user_id", "user_id"),
)

# Of people only what a personal mandate is named after.
directory_users = sa.Table(
    "directory_users",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("username", sa.Text),
    sa.Column("version", sa.BigInteger, nullable=False),
)

# Which kinds of entries the copy was filled with from the beginning of the topic, and when.
directory_fillings = sa.Table(
    "directory_fillings",
    metadata,
    sa.Column("kinds", sa.Text, primary_key=True),
    sa.Column("filled_at", _Time, nullable=False),
)

# A feature instance on its way to be active, or back; `price` is micro-CHF for one instance and period. What was
# activated once stays ACTIVE here: whether it is still in use, the directory says.
activations = sa.Table(
    "activations",
    metadata,
    sa.Column("instance_id", sa.Uuid, primary_key=True),
    sa.Column("mandate_id", _Id, nullable=False),
    sa.Column("user_id", _Id, nullable=False),
    sa.Column("feature_code", _Id, nullable=False),
    sa.Column("label_de", sa.Text, nullable=False),
    sa.Column("label_en", sa.Text, nullable=False),
    sa.Column("language", sa.Text, nullable=False),
    sa.Column("subscription_id", sa.Uuid, sa.ForeignKey(subscriptions.c.id), nullable=False),
    sa.Column("price", sa.BigInteger, nullable=False),
    sa.Column("billing_period", sa.Text, nullable=False),
    sa.Column("paid_at_once", sa.Boolean, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("failure", sa.Text),
    # Of the quantities that have to be paid before it is active.
    sa.Column("quantity_version", sa.BigInteger),
    sa.Column("request_key", sa.Uuid),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("deadline_at", _Time, nullable=False),
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("changed_at", _Time, nullable=False),
    # One instance for a key, unless what it began came to nothing.
    sa.Index(
        "uq_activations_request_key",
        "request_key",
        unique=True,
        postgresql_where=sa.text("state IN ('PROVISIONING', 'BILLING', 'ACTIVE')"),
    ),
    sa.Index(
        "ix_activations_open",
        "mandate_id",
        postgresql_where=sa.text("state IN ('PROVISIONING', 'BILLING', 'ROLLING_BACK')"),
    ),
)

# An access, and with the last one its instance, on the way out of the directory.
removals = sa.Table(
    "removals",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("instance_id", _Id, nullable=False),
    sa.Column("mandate_id", _Id, nullable=False),
    sa.Column("user_id", _Id, nullable=False),
    sa.Column("instance_removed", sa.Boolean, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("requested_at", _Time, nullable=False),
    sa.Column("done_at", _Time),
    sa.Index("uq_removals_open", "instance_id", "user_id", unique=True, postgresql_where=sa.text("done_at IS NULL")),
    sa.Index("ix_removals_open", "mandate_id", postgresql_where=sa.text("done_at IS NULL")),
)

# Who has, or had, a personal mandate: a user once, ever.
personal_mandates = sa.Table(
    "personal_mandates",
    metadata,
    sa.Column("user_id", _Id, primary_key=True),
    sa.Column("mandate_id", _Id, nullable=False, unique=True),
    sa.Column("created_at", _Time, nullable=False),
)

outbox = outbox_table(metadata)
quarantine = quarantine_table(metadata)
stopped_consumers = stopped_consumers_table(metadata)
