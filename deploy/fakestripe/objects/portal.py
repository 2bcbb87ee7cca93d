"""Sessions of the customer portal, and what a customer does there."""

from __future__ import annotations

from urllib.parse import urlsplit

from deploy.fakestripe.objects.given import own
from deploy.fakestripe.objects.payment_methods import TestCard, attach, new_card, refuse_attaching
from deploy.fakestripe.objects.subscriptions import ENDED, period_end, set_end
from deploy.fakestripe.operation import Call, Operation, support_only
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import invalid, missing

CONFIGURATION = "bpc_fakestripe"
LIFETIME_S = 3600
_FLOWS = ("payment_method_update", "subscription_cancel")


def _create(call: Call) -> Json:
    params = call.params
    if "customer" not in params:
        raise missing("customer")
    customer = call.refer("customer", "customer", params["customer"], "customer")
    url = params.get("return_url")
    if url is not None and (urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname):
        raise invalid("Not a valid URL. URLs must start with http:// or https://.", "return_url", "url_invalid")
    key = call.store.new_id("bps_")
    session: Json = {
        "id": key,
        "object": "billing_portal.session",
        "configuration": CONFIGURATION,
        "created": call.now,
        "customer": customer["id"],
        "customer_account": None,
        "flow": _flow(call, customer),
        "livemode": False,
        "locale": params.get("locale"),
        "on_behalf_of": None,
        "return_url": url,
        "url": f"{call.settings.public_url}/portal/{key}",
    }
    call.store.add("portal_session", session)
    call.emit("billing_portal.session.created", session)
    return session


def _flow(call: Call, customer: Json) -> Json | None:
    given = call.params.get("flow_data")
    if given is None:
        return None
    support_only(given, "type", _FLOWS, "flow_data[type]")
    after = given.get("after_completion", {"type": "portal_homepage"})
    support_only(after, "type", ("portal_homepage", "redirect"), "flow_data[after_completion][type]")
    flow: Json = {
        "after_completion": {
            "hosted_confirmation": None,
            "redirect": after.get("redirect"),
            "type": after["type"],
        },
        "subscription_cancel": None,
        "subscription_update": None,
        "subscription_update_confirm": None,
        "type": given["type"],
    }
    if given["type"] == "subscription_cancel":
        wanted = given.get("subscription_cancel", {}).get("subscription")
        if wanted is None:
            raise missing("flow_data[subscription_cancel][subscription]")
        at = "flow_data[subscription_cancel][subscription]"
        subscription = call.refer("subscription", "subscription", wanted, at)
        if subscription["customer"] != customer["id"]:
            raise invalid("The subscription is of another customer.", at)
        flow["subscription_cancel"] = {"retention": None, "subscription": wanted}
    return flow


def subscriptions_of(call: Call, customer: str) -> list[Json]:
    """Return the customer's subscriptions that have not ended, oldest first."""
    rows = own(call.store, "subscription")
    return [row for row in rows if row["customer"] == customer and row["status"] not in ENDED]


def end_or_go_on(call: Call, subscription: Json, *, ends: bool) -> None:
    """Set a subscription to end with its period, or take that back.

    One of flexible billing is given the moment of its end and no flag, as Stripe's own portal does.
    """
    flexible = subscription["billing_mode"]["type"] == "flexible"
    if not ends:
        given: Json = {"cancel_at": ""}
    elif flexible:
        given = {"cancel_at": subscription["trial_end"] if _on_trial(subscription) else period_end(subscription)}
    else:
        given = {"cancel_at_period_end": True}
    previous = set_end(call, subscription, given)
    if previous:
        call.emit("customer.subscription.updated", subscription, previous)


def _on_trial(subscription: Json) -> bool:
    return bool(subscription["status"] == "trialing")


def change_card(call: Call, customer: Json, card: TestCard) -> None:
    """Make a new card the one that everything is paid with; raises Stripe's 402 for one that cannot be saved."""
    method = new_card(call, card, customer["email"])
    refuse_attaching(call, method)
    attach(call, method, customer["id"])
    call.store.table("test_card")[method["id"]]["saved"] = True
    before = customer["invoice_settings"]
    customer["invoice_settings"] = {**before, "default_payment_method": method["id"]}
    call.emit("customer.updated", customer, {"invoice_settings": before})
    for subscription in subscriptions_of(call, customer["id"]):
        if subscription["default_payment_method"] is not None:
            previous = {"default_payment_method": subscription["default_payment_method"]}
            subscription["default_payment_method"] = method["id"]
            call.emit("customer.subscription.updated", subscription, previous)


_TAKES = (
    "customer",
    "flow_data.after_completion.redirect",
    "flow_data.after_completion.type",
    "flow_data.subscription_cancel.subscription",
    "flow_data.type",
    "locale",
    "return_url",
)
OPERATIONS = (Operation("POST", "/v1/billing_portal/sessions", "billing_portal.SessionCreateParams", _create, _TAKES),)
