"""What the store shows: mandates, the personal one of who has none, the subscription, the features."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import UUID

from rappen_contracts import decode
from rappen_contracts.subscription.v1 import SubscriptionChanged
from services.chassis.clock import system_clock
from tests.integration.store.harness import CATALOGUE, Shop, unique
from tests.support.topics import read_topic
from tests.support.waiting import eventually

NOTHING = {
    "plan": None,
    "status": None,
    "recurring": None,
    "maxDataVolumeMB": None,
    "maxFeatureInstances": None,
    "budgetAiCHF": None,
    "currentFeatureInstances": None,
    "trialEndsAt": None,
}


async def info(shop: Shop, user: str, mandate: str | None = None) -> dict[str, Any]:
    answer = await shop.get("subscription-info", user, params={} if mandate is None else {"mandateId": mandate})
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def started(shop: Shop, mandate: str) -> list[SubscriptionChanged]:
    records = await read_topic(shop.servers.kafka.bootstrap_servers, "subscription.changed", key=mandate)
    events = [decode(record.headers, record.value, now=system_clock()).data for record in records]
    return [event for event in events if isinstance(event, SubscriptionChanged)]


async def test_mandates_are_those_that_the_caller_administers_without_the_operators_own(shop: Shop) -> None:
    first, user = await shop.tenant()
    system, nameless, disabled, plain = unique("m"), unique("m"), unique("m"), unique("m")
    await shop.enter(
        {"kind": "mandate", "id": system, "isSystem": True},
        {"kind": "mandate", "id": nameless},
        {"kind": "mandate", "id": disabled, "enabled": False},
        {"kind": "mandate", "id": plain},
        *(
            {"kind": "membership", "mandateId": each, "userId": user, "roles": ["admin"]}
            for each in (system, nameless, disabled)
        ),
        {"kind": "membership", "mandateId": plain, "userId": user, "roles": ["member"]},
    )
    expected = [
        {"id": first, "name": "acme", "label": "Acme AG"},
        {"id": nameless, "name": nameless, "label": nameless},
    ]
    assert (await shop.get("mandates", user)).json() == sorted(expected, key=lambda each: each["id"])
    assert await shop.fetch("SELECT 1 FROM personal_mandates WHERE user_id = $1", user) == []


async def test_who_administers_nothing_gets_one_personal_mandate_with_one_trial_ever(shop: Shop) -> None:
    user, _ = unique("u"), await shop.tenant()
    await shop.enter({"kind": "user", "id": user, "username": "jo"})
    answers = await asyncio.gather(*(shop.get("mandates", user) for _ in range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8, answers[0].text
    (shown,) = {str(answer.json()) for answer in answers}
    (personal,) = answers[0].json()
    mandate = personal["id"]
    assert (personal["name"], personal["label"]) == ("Home jo", "Home jo"), shown

    membership = await shop.http.get(f"/api/directory/memberships/{mandate}/{user}", headers=shop.root)
    assert membership.json() == {"mandateId": mandate, "userId": user, "roles": ["admin"], "enabled": True}
    (trial,) = await started(shop, mandate)
    assert (trial.to_state, trial.plan.key, trial.budget_due) == ("TRIALING", "TRIAL_7D", True)
    assert (await info(shop, user))["status"] == "TRIALING"
    # It can be used at once.
    assert (await shop.activate(user, mandate)).status_code == 200

    # Disabled, or not administered any more, it is not made again.
    change = await shop.http.put(
        f"/api/directory/mandates/{mandate}", json={"name": "Home jo", "enabled": False}, headers=shop.root
    )
    assert change.status_code == 200
    assert (await shop.get("mandates", user)).json() == []
    assert await info(shop, user) == NOTHING
    await shop.enter(
        {"kind": "mandate", "id": mandate, "name": "Home jo"},
        {"kind": "membership", "mandateId": mandate, "userId": user, "roles": ["member"]},
    )
    assert (await shop.get("mandates", user)).json() == []
    assert len(await shop.fetch("SELECT 1 FROM trials WHERE user_id = $1", user)) == 1
    assert len(await started(shop, mandate)) == 1


async def test_somebody_who_is_not_entered_yet_gets_one_too_and_so_does_a_system_administrator(shop: Shop) -> None:
    user = unique("u")
    (personal,) = (await shop.get("mandates", user)).json()
    assert personal["name"] == f"Home {user}"
    root = shop.issuer.person(unique("root"), system_admin=True)
    (own,) = (await shop.http.get("/api/store/mandates", headers=root)).json()
    assert own["id"] != personal["id"]


async def test_the_name_of_a_personal_mandate_is_one_that_the_directory_can_hold(shop: Shop) -> None:
    user = unique("u")
    await shop.enter({"kind": "user", "id": user, "username": "j" * 200})
    (personal,) = (await shop.get("mandates", user)).json()
    assert personal["name"] == "Home " + "j" * 195
    shown = await shop.http.get(f"/api/directory/mandates/{personal['id']}", headers=shop.root)
    assert (shown.status_code, shown.json()["name"]) == (200, personal["name"])


async def test_who_administers_only_the_operators_mandate_gets_a_personal_one(shop: Shop) -> None:
    system, user = await shop.tenant(isSystem=True)
    (personal,) = (await shop.get("mandates", user)).json()
    assert personal["id"] != system


async def test_a_trial_that_was_had_elsewhere_is_not_had_again(shop: Shop) -> None:
    mandate, user = await shop.tenant()
    given = shop.headers(user)
    begun = await shop.http.post(f"/api/subscriptions/{mandate}", json={"planKey": "TRIAL_7D"}, headers=given)
    assert begun.status_code == 200, begun.text
    await shop.enter({"kind": "membership", "mandateId": mandate, "userId": user, "roles": ["member"]})
    (personal,) = (await shop.get("mandates", user)).json()
    assert await info(shop, user, personal["id"]) == {**NOTHING, "currentFeatureInstances": 0}
    assert await started(shop, personal["id"]) == []


async def test_a_trial_that_is_offered_in_an_open_checkout_is_not_had_beside_it(shop: Shop) -> None:
    mandate, user = await shop.tenant()
    paid_later = replace(CATALOGUE.plan("TEAM"), trial_days=14)
    await shop.subscribe(mandate, "TEAM", "PENDING", plan=paid_later, created_by=user, period=None)
    await shop.enter({"kind": "membership", "mandateId": mandate, "userId": user, "roles": ["member"]})
    (personal,) = (await shop.get("mandates", user)).json()
    assert await info(shop, user, personal["id"]) == {**NOTHING, "currentFeatureInstances": 0}
    assert await started(shop, personal["id"]) == []


async def test_the_subscription_is_the_operative_one_else_the_latest(shop: Shop) -> None:
    mandate, user = await shop.tenant()
    assert await info(shop, user, mandate) == {**NOTHING, "currentFeatureInstances": 0}
    trial = await shop.subscribe(mandate, "TRIAL_7D", "TRIALING")
    assert (await shop.activate(user, mandate)).status_code == 200
    shown = await info(shop, user)
    assert shown.pop("trialEndsAt").endswith("Z")
    assert shown == {
        "plan": "TRIAL_7D",
        "status": "TRIALING",
        "recurring": False,
        "maxDataVolumeMB": 500,
        "maxFeatureInstances": 3,
        "budgetAiCHF": 5,
        "currentFeatureInstances": 1,
    }
    await shop.execute("UPDATE subscriptions SET state = 'EXPIRED' WHERE id = $1", trial)
    assert (await info(shop, user, mandate))["status"] == "EXPIRED"
    assert (await info(shop, user, mandate))["currentFeatureInstances"] == 1
    # The frontend knows no word for what is cancelled and still runs.
    cancelled = await shop.subscribe(mandate, "ENTERPRISE", "CANCELED")
    shown = await info(shop, user, mandate)
    assert (shown["plan"], shown["status"], shown["recurring"]) == ("ENTERPRISE", "ACTIVE", False)
    assert (shown["maxDataVolumeMB"], shown["maxFeatureInstances"], shown["budgetAiCHF"]) == (None, None, 1000)
    # A later one that only waits is not the one that counts.
    await shop.subscribe(mandate, "STARTER", "PENDING", complete=False)
    assert (await info(shop, user, mandate))["plan"] == "ENTERPRISE"
    await shop.execute("UPDATE subscriptions SET state = 'EXPIRED' WHERE id = $1", cancelled)
    assert (await info(shop, user, mandate))["status"] == "PENDING"


async def test_the_subscription_is_for_members(shop: Shop) -> None:
    mandate, _ = await shop.tenant()
    _, stranger = await shop.tenant()
    for where in (mandate, unique("m")):
        answer = await shop.get("subscription-info", stranger, params={"mandateId": where})
        assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
    plain = unique("u")
    await shop.enter(
        {"kind": "user", "id": plain},
        {"kind": "membership", "mandateId": mandate, "userId": plain, "roles": ["member"]},
    )
    assert await info(shop, plain, mandate) == {**NOTHING, "currentFeatureInstances": 0}
    # Without naming one it is the first that the caller administers.
    assert await info(shop, plain) == NOTHING
    unknown = await shop.http.get("/api/store/subscription-info", params={"mandateId": unique("m")}, headers=shop.root)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "MANDATE_UNKNOWN")
    bad = await shop.get("subscription-info", plain, params={"mandateId": "not an id"})
    assert (bad.status_code, [fault["field"] for fault in bad.json()["errors"]]) == (422, ["mandateId"])


async def test_features_show_the_callers_own_instances_and_where_one_more_is_allowed(shop: Shop) -> None:
    mandate, user = await shop.tenant()
    bare, other, system = unique("m"), unique("m"), unique("m")
    foreign, theirs = await shop.tenant()
    await shop.subscribe(mandate, "TRIAL_7D", "TRIALING")
    await shop.subscribe(other, "STARTER", complete=False)
    await shop.enter(
        *({"kind": "mandate", "id": each, "name": each, "isSystem": each == system} for each in (bare, other, system)),
        *(
            {"kind": "membership", "mandateId": each, "userId": user, "roles": ["admin"]}
            for each in (bare, other, system)
        ),
        # An instance in a mandate whose member the caller is not, two that are not theirs any more.
        {"kind": "feature_instance", "id": f"{foreign}-i", "mandateId": foreign, "featureCode": "chat"},
        {"kind": "feature_access", "instanceId": f"{foreign}-i", "userId": user, "roles": ["user"]},
        {"kind": "feature_instance", "id": f"{foreign}-d", "mandateId": foreign, "featureCode": "chat"},
        {"kind": "feature_access", "instanceId": f"{foreign}-d", "userId": user, "roles": ["user"], "enabled": False},
        {
            "kind": "feature_instance",
            "id": f"{foreign}-e",
            "mandateId": foreign,
            "featureCode": "chat",
            "enabled": False,
        },
        {"kind": "feature_access", "instanceId": f"{foreign}-e", "userId": user, "roles": ["admin"]},
    )
    made = (await shop.activate(user, mandate)).json()["instanceId"]
    features = (await shop.get("features", user)).json()
    assert [each["featureCode"] for each in features] == [
        "chat",
        "automation",
        "image-studio",
        "transcription",
        "chat-playground",
    ]
    activatable = sorted(
        [
            {"mandateId": mandate, "allowed": True, "reason": None},
            {"mandateId": bare, "allowed": False, "reason": "NO_SUBSCRIPTION"},
            {"mandateId": other, "allowed": False, "reason": "STRIPE_INCOMPLETE"},
        ],
        key=lambda each: str(each["mandateId"]),
    )
    chat, automation, *_, playground = features
    assert chat == {
        "featureCode": "chat",
        "label": {"en": "Chat", "de": "Chat"},
        "icon": "mdi-chat",
        "description": {
            "en": "Conversations with AI models, with documents of your own.",
            "de": "Gespräche mit KI-Modellen, mit eigenen Dokumenten.",
        },
        "instances": [
            {
                "instanceId": instance,
                "mandateId": where,
                "mandateName": "Acme AG",
                "label": label,
                "isActive": True,
            }
            for where, instance, label in sorted([(mandate, made, "Chat"), (foreign, f"{foreign}-i", "chat")])
        ],
        "canActivate": True,
        "activatable": activatable,
    }
    assert (automation["instances"], automation["activatable"]) == ([], activatable)
    assert (playground["icon"], playground["description"]) == ("mdi-puzzle", {})

    # Two more places, then none: of whatever feature.
    for _ in range(2):
        assert (await shop.activate(user, mandate, "automation")).status_code == 200
    chat, *_ = (await shop.get("features", user)).json()
    assert chat["canActivate"] is False
    assert {"mandateId": mandate, "allowed": False, "reason": "LIMIT_REACHED"} in chat["activatable"]
    # Somebody else sees nothing of it.
    chat, *_ = (await shop.get("features", theirs)).json()
    assert chat["instances"] == []
    assert [each["mandateId"] for each in chat["activatable"]] == [foreign]


async def test_service_accounts_and_strangers_have_no_store(shop: Shop) -> None:
    program = shop.issuer.service_account("usage:write usage:check")
    for method, path in (
        ("GET", "mandates"),
        ("GET", "subscription-info"),
        ("GET", "features"),
        ("POST", "activate"),
        ("POST", "deactivate"),
    ):
        assert (await shop.http.request(method, f"/api/store/{path}", headers=program)).status_code == 403
        assert (await shop.http.request(method, f"/api/store/{path}")).status_code == 401


async def test_an_instance_that_the_directory_takes_away_makes_room(shop: Shop) -> None:
    mandate, user = await shop.tenant()
    await shop.subscribe(mandate, "TRIAL_7D", "TRIALING")
    limit = CATALOGUE.plan("TRIAL_7D").max_feature_instances
    answers = [await shop.activate(user, mandate) for _ in range(limit or 0)]
    assert Counter(answer.status_code for answer in answers) == {200: 3}
    gone = UUID(answers[0].json()["instanceId"])
    assert (await shop.http.delete(f"/api/directory/feature-instances/{gone}", headers=shop.root)).status_code < 300
    await eventually(lambda: _in_use(shop, user, mandate, 2), what="the place free")
    assert (await shop.activate(user, mandate)).status_code == 200


async def _in_use(shop: Shop, user: str, mandate: str, count: int) -> bool:
    return bool((await info(shop, user, mandate))["currentFeatureInstances"] == count)
