"""What all tables of billing share: the metadata, and the types of ids and times."""

import sqlalchemy as sa

from services.chassis.migrations import service_metadata

__all__ = ["NOW", "Id", "Time", "metadata"]

metadata = service_metadata("billing")

Id = sa.Text(collation="C")
Time = sa.DateTime(timezone=True)
NOW = sa.text("now()")
