"""The public operations that the subscriptions service answers."""

from services.gateway.api.documents import subscriptions as documents
from services.gateway.api.forwarding import add_forwarded
from services.gateway.api.operations import CHANGES_PER_MINUTE, Body, Operation, Repeat, Surface, Who
from services.gateway.clients import ServiceClient

__all__ = ["OPERATIONS", "add_subscriptions"]

OPERATIONS = (
    Operation(
        "GET",
        "/api/subscriptions/plans",
        "subscriptions-list-plans",
        "The plans on offer.",
        answer=documents.Plans,
    ),
    Operation(
        "GET",
        "/api/subscriptions/{mandateId}",
        "subscriptions-get",
        "A mandate's subscription.",
        who=Who.MEMBER,
        answer=documents.SubscriptionAnswer,
        refusals=(404, 422),
    ),
    Operation(
        "POST",
        "/api/subscriptions/{mandateId}",
        "subscriptions-start",
        "Start a plan, or change to it.",
        who=Who.MANDATE_ADMIN,
        limit=CHANGES_PER_MINUTE,
        body=Body(documents.StartSubscription),
        answer=documents.Started,
        refusals=(400, 402, 404, 409, 413, 415, 422),
        repeat=Repeat.KEY,
    ),
)


def add_subscriptions(surface: Surface, subscriptions: ServiceClient) -> None:
    """Serves them."""
    add_forwarded(surface, subscriptions, OPERATIONS)
