"""What belongs to the account as a whole: events, webhook endpoints and the balance."""

from __future__ import annotations

from urllib.parse import urlsplit

from deploy.fakestripe.contract import API_VERSION
from deploy.fakestripe.listing import PAGE, table_page
from deploy.fakestripe.objects.given import own
from deploy.fakestripe.operation import Call, Operation, merged_metadata, retrieval, unset_if_empty
from deploy.fakestripe.store import Json
from deploy.fakestripe.webhooks import endpoint_object
from deploy.fakestripe.wire import invalid


def _list_events(call: Call) -> Json:
    if "type" in call.params and "types" in call.params:
        raise invalid("You may only specify one of these parameters: type, types.", "types")
    wanted = call.params.get("delivery_success")

    def keep(event: Json) -> bool:
        waiting = call.store.table("undelivered").get(event["id"])
        return wanted is None or wanted == (waiting is None or not waiting["endpoints"])

    return table_page(call, "event", equal=("type",), within=("type", "types"), keep=keep)


def _create_endpoint(call: Call) -> Json:
    url = call.params["url"]
    if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
        raise invalid("Invalid URL: an address with http or https is needed.", "url", "url_invalid")
    if call.params.get("api_version") not in (None, "", API_VERSION):
        raise invalid(f"The fake Stripe speaks the version {API_VERSION} only.", "api_version", "unsupported_by_fake")
    if not call.params["enabled_events"]:
        raise invalid("At least one event is needed.", "enabled_events")
    key = call.store.new_id("we_")
    endpoint = endpoint_object(key, url, call.params["enabled_events"], API_VERSION, call.now)
    endpoint["description"] = unset_if_empty(call.params.get("description"))
    endpoint["metadata"] = merged_metadata({}, call.params.get("metadata"))
    call.store.add("webhook_endpoint", endpoint)
    secret = call.store.new_id("whsec_", 32)
    call.store.add("webhook_secret", {"id": key, "secret": secret})
    return {**endpoint, "secret": secret}


def _balance(call: Call) -> Json:
    amounts: dict[str, int] = {"chf": 0}
    for charge in own(call.store, "charge"):
        if charge["status"] == "succeeded":
            left = charge["amount"] - charge["amount_refunded"]
            amounts[charge["currency"]] = amounts.get(charge["currency"], 0) + left
    available = [
        {"amount": amount, "currency": currency, "source_types": {"card": amount}}
        for currency, amount in sorted(amounts.items())
    ]
    pending = [{"amount": 0, "currency": row["currency"], "source_types": {"card": 0}} for row in available]
    return {"object": "balance", "available": available, "livemode": False, "pending": pending}


_EVENT_FILTERS = ("created", "delivery_success", "type", "types")
OPERATIONS = (
    Operation("GET", "/v1/events", "EventListParams", _list_events, (*PAGE, *_EVENT_FILTERS)),
    retrieval("/v1/events/{id}", "EventRetrieveParams", "event", "event"),
    Operation(
        "POST",
        "/v1/webhook_endpoints",
        "WebhookEndpointCreateParams",
        _create_endpoint,
        ("api_version", "description", "enabled_events", "metadata", "url"),
    ),
    Operation(
        "GET",
        "/v1/webhook_endpoints",
        "WebhookEndpointListParams",
        lambda call: table_page(call, "webhook_endpoint"),
        PAGE,
    ),
    retrieval(
        "/v1/webhook_endpoints/{webhook_endpoint}",
        "WebhookEndpointRetrieveParams",
        "webhook_endpoint",
        "webhook endpoint",
    ),
    Operation("GET", "/v1/balance", "BalanceRetrieveParams", _balance),
)
