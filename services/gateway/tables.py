"""The tables of the schema `gateway`, as the migrations make them: the directory, its outbox, shared rate limits.

Every entry carries the version of its last change, from one sequence for the whole directory, drawn while the entry's
row is locked. Nothing is ever deleted: what ends is disabled. Text ids are compared byte by byte (collation C).
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.schema import SchemaItem

from services.chassis.dead_letter_limit import stopped_consumers_table
from services.chassis.migrations import service_metadata
from services.chassis.outbox import outbox_table
from services.chassis.quarantine import quarantine_table

__all__ = [
    "directory_requests",
    "directory_version",
    "feature_access",
    "feature_instances",
    "mandates",
    "memberships",
    "metadata",
    "outbox",
    "provider_permissions",
    "quarantine",
    "rate_windows",
    "stopped_consumers",
    "users",
]

metadata = service_metadata("gateway")

directory_version = sa.Sequence("directory_version", metadata=metadata)

_Id = sa.Text(collation="C")


def _entry_table(name: str, *columns: sa.Column[Any], more: tuple[SchemaItem, ...] = ()) -> sa.Table:
    """A table of entries: its own columns, and what every entry has."""
    return sa.Table(
        name,
        metadata,
        *columns,
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        *more,
    )


def _enabled() -> sa.Column[bool]:
    return sa.Column("enabled", sa.Boolean, nullable=False)


def _roles() -> sa.Column[list[str]]:
    return sa.Column("roles", ARRAY(sa.Text, dimensions=1), nullable=False)


def _consent() -> tuple[sa.Column[Any], ...]:
    """`pending` while the person has not consented; only a row that is not pending must refer to an existing user."""
    known = sa.Computed("CASE WHEN pending THEN NULL ELSE user_id END", persisted=True)
    return (
        sa.Column("pending", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("known_user_id", _Id, known, sa.ForeignKey(users.c.id)),
    )


mandates = _entry_table(
    "mandates",
    sa.Column("id", _Id, primary_key=True),
    sa.Column("name", sa.Text),
    sa.Column("label", sa.Text),
    _enabled(),
    sa.Column("is_system", sa.Boolean, nullable=False),
)

users = _entry_table(
    "users",
    sa.Column("id", _Id, primary_key=True),
    sa.Column("username", sa.Text),
    sa.Column("email", sa.Text),
    sa.Column("first_name", sa.Text),
    sa.Column("last_name", sa.Text),
    sa.Column("language", sa.Text),
    _enabled(),
)

memberships = _entry_table(
    "memberships",
    sa.Column("mandate_id", _Id, sa.ForeignKey(mandates.c.id), primary_key=True),
    sa.Column("user_id", _Id, primary_key=True),
    _roles(),
    _enabled(),
    *_consent(),
    more=(sa.Index(None, "user_id"),),
)

feature_instances = _entry_table(
    "feature_instances",
    sa.Column("id", _Id, primary_key=True),
    sa.Column("mandate_id", _Id, sa.ForeignKey(mandates.c.id), nullable=False),
    sa.Column("feature_code", sa.Text, nullable=False),
    sa.Column("label", sa.Text),
    _enabled(),
    more=(sa.UniqueConstraint("id", "mandate_id"), sa.Index(None, "mandate_id")),
)

# The instance's mandate, copied here; an instance never changes its mandate.
feature_access = _entry_table(
    "feature_access",
    sa.Column("instance_id", _Id, primary_key=True),
    sa.Column("mandate_id", _Id, nullable=False),
    sa.Column("user_id", _Id, primary_key=True),
    _roles(),
    _enabled(),
    *_consent(),
    more=(
        sa.ForeignKeyConstraint(
            ["instance_id", "mandate_id"], [feature_instances.c.id, feature_instances.c.mandate_id]
        ),
        sa.Index(None, "user_id"),
        sa.Index(None, "mandate_id"),
    ),
)

# Null providers: the platform's default again. The row stays, because its version must go on growing.
provider_permissions = _entry_table(
    "provider_permissions",
    sa.Column("mandate_id", _Id, sa.ForeignKey(mandates.c.id), primary_key=True),
    sa.Column("role", sa.Text(collation="C"), primary_key=True),
    sa.Column("providers", ARRAY(sa.Text, dimensions=1)),
)

# What other services have asked for and was applied, once for each id and for ever.
directory_requests = sa.Table(
    "directory_requests",
    metadata,
    sa.Column("request_id", sa.Uuid, primary_key=True),
    sa.Column("mandate_id", _Id, nullable=False),
    sa.Column("requested_by", _Id, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("applied_at", sa.DateTime(timezone=True), nullable=False),
)

# Requests of the last minute, where several gateways count them together; it may be lost at any time.
rate_windows = sa.Table(
    "rate_windows",
    metadata,
    sa.Column("subject", _Id, primary_key=True),
    sa.Column("operation_id", _Id, primary_key=True),
    # Whether the last request was within the limit.
    sa.Column("granted", sa.Boolean, nullable=False),
    # The moments of the requests that were, the oldest first.
    sa.Column("taken", ARRAY(sa.DateTime(timezone=True), dimensions=1), nullable=False),
    prefixes=["UNLOGGED"],
)

outbox = outbox_table(metadata)
quarantine = quarantine_table(metadata)
stopped_consumers = stopped_consumers_table(metadata)
