"""Methods that may be charged without their holder, and the mandates that TWINT gives for it."""

from __future__ import annotations

from deploy.fakestripe.objects.payment_methods import REVOKED_TWINT
from deploy.fakestripe.operation import Call, Operation, retrieval
from deploy.fakestripe.store import Json


def keep_for_later(call: Call, method: Json) -> Json | None:
    """Note that a method may be charged without its holder; return the mandate, which only TWINT gives."""
    row = call.store.table("test_card").get(method["id"])
    if row is None:
        return None
    row["saved"] = True
    if method["type"] != "twint":
        return None
    return mandate_of(call, method) or _new_mandate(call, method)


def mandate_of(call: Call, method: Json) -> Json | None:
    """Return the mandate of a method that was saved, revoked or not."""
    mandates = call.store.table("mandate").values()
    return next((row for row in mandates if row["payment_method"] == method["id"]), None)


def _new_mandate(call: Call, method: Json) -> Json:
    return call.store.add(
        "mandate",
        {
            "id": call.store.new_id("mandate_"),
            "object": "mandate",
            "customer_acceptance": {
                "accepted_at": call.now,
                "online": {"ip_address": "127.0.0.1", "user_agent": "fake Stripe"},
                "type": "online",
            },
            "livemode": False,
            "multi_use": {},
            "payment_method": method["id"],
            "payment_method_details": {"twint": {}, "type": "twint"},
            "status": "active",
            "type": "multi_use",
        },
    )


def revoke(call: Call, mandate: Json) -> None:
    """Let the holder end a mandate in the app: nothing is paid by its method any more."""
    mandate["status"] = "inactive"
    call.store.table("test_card")[mandate["payment_method"]]["card"] = REVOKED_TWINT.name
    call.emit("mandate.updated", mandate, {"status": "active"})


OPERATIONS: tuple[Operation, ...] = (
    retrieval("/v1/mandates/{mandate}", "MandateRetrieveParams", "mandate", "mandate"),
)
