"""Billing's copy of the directory."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from services.billing.tables.base import Id, metadata

__all__ = ["directory_mandates", "directory_members", "directory_users", "provider_permissions"]

directory_mandates = sa.Table(
    "directory_mandates",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", sa.Text),
    sa.Column("label", sa.Text),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("is_system", sa.Boolean, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)

directory_users = sa.Table(
    "directory_users",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("username", sa.Text),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)

directory_members = sa.Table(
    "directory_members",
    metadata,
    sa.Column("mandate_id", Id, nullable=False),
    sa.Column("user_id", Id, nullable=False),
    sa.Column("roles", ARRAY(sa.Text), nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("mandate_id", "user_id"),
    sa.Index("ix_directory_members_user_id", "user_id"),
)

provider_permissions = sa.Table(
    "provider_permissions",
    metadata,
    sa.Column("mandate_id", Id, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    # Null after a row was taken away again: the platform's default holds.
    sa.Column("providers", ARRAY(sa.Text)),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("mandate_id", "role"),
)
