"""What a person may see, read from the directory once per request and not cached."""

from fastapi import Request

from services.chassis.bodies import IDENTIFIER
from services.chassis.caller import Caller, Forbidden
from services.chassis.database import Database
from services.chassis.requests import language_of
from services.gateway.access.errors import InvalidContext, UserDisabled
from services.gateway.access.identity import Identity

__all__ = ["ScopeReader"]

# One statement, of every request, so it is the driver's own, which is prepared once: what is disabled or only pending
# anywhere on the way (mandate, membership, instance, access) gives nothing, and a role counts only as the whole word.
_SCOPE = """
SELECT
  (SELECT enabled FROM users WHERE id = $1) AS enabled,
  (SELECT coalesce(jsonb_object_agg(membership.mandate_id, 'admin' = ANY (membership.roles)), '{}')
     FROM memberships AS membership
     JOIN mandates AS mandate ON mandate.id = membership.mandate_id AND mandate.enabled
    WHERE membership.user_id = $1 AND membership.enabled AND NOT membership.pending) AS mandates,
  ARRAY(SELECT access.instance_id
     FROM feature_access AS access
     JOIN feature_instances AS instance ON instance.id = access.instance_id AND instance.enabled
     JOIN mandates AS mandate ON mandate.id = access.mandate_id AND mandate.enabled
    WHERE access.user_id = $1 AND access.enabled AND NOT access.pending AND 'admin' = ANY (access.roles)) AS instances,
  ARRAY(SELECT DISTINCT access.mandate_id
     FROM feature_access AS access
     JOIN feature_instances AS instance ON instance.id = access.instance_id AND instance.enabled
     JOIN mandates AS mandate ON mandate.id = access.mandate_id AND mandate.enabled
    WHERE access.user_id = $1 AND access.enabled AND NOT access.pending AND 'admin' = ANY (access.roles))
      AS instance_mandates
"""


class ScopeReader:
    """Makes the caller of a person's request from their identity, the directory and the context header."""

    def __init__(self, database: Database, *, context_header: str) -> None:
        self._database = database
        self._context_header = context_header

    async def read(self, identity: Identity, request: Request, *, context: bool) -> Caller:
        """The caller; refuses a disabled user and, where it counts, a context mandate whose member they are not."""
        async with self._database.driver_reading() as connection:
            row = await connection.fetchrow(_SCOPE, identity.subject)
        # A person whom the directory does not know (yet) is a caller without mandates.
        if row["enabled"] is False:
            raise UserDisabled
        mandates: dict[str, bool] = row["mandates"]
        return Caller(
            user_id=identity.subject,
            system_admin=identity.system_admin,
            mandates=mandates,
            instances=frozenset(row["instances"]),
            instance_mandates=frozenset(row["instance_mandates"]),
            context_mandate=self._context(request, identity, mandates) if context else None,
            language=language_of(request),
        )

    def _context(self, request: Request, identity: Identity, mandates: dict[str, bool]) -> str | None:
        named = request.headers.get(self._context_header)
        if named is None:
            return None
        if not IDENTIFIER.fullmatch(named):
            raise InvalidContext(header=self._context_header)
        if named not in mandates and not identity.system_admin:
            raise Forbidden
        return named
