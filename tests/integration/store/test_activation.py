"""Activating and deactivating features: each check in its order, limits, payment, rollback, repeats."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest

from rappen_contracts.directory.v1 import DirectoryChanged, FeatureAccess
from rappen_contracts.registry import DIRECTORY_CHANGED_V1
from rappen_contracts.stripe.v1 import QuantitySettled
from services.chassis.clock import system_clock
from services.subscriptions.store.advance_activations import OUTCOMES, payments_were_settled
from services.subscriptions.store.domain import removal_request
from tests.integration.store.harness import Shop, publish, unique
from tests.support.waiting import eventually


def code_of(answer: object) -> tuple[int, str | None]:
    document = answer.json()  # type: ignore[attr-defined]
    return answer.status_code, document.get("code")  # type: ignore[attr-defined]


async def test_a_feature_of_a_free_plan_is_active_at_once_and_goes_with_its_last_user(shop: Shop) -> None:
    mandate, user = await shop.tenant()
    await shop.subscribe(mandate, "TRIAL_7D", "TRIALING")
    answer = await shop.activate(user, mandate, language="de")
    assert answer.status_code == 200, answer.text
    instance = answer.json()["instanceId"]
    assert answer.json() == {
        "featureCode": "chat",
        "mandateId": mandate,
        "instanceId": instance,
        "activated": True,
    }
    assert await shop.instances(mandate) == [
        {"id": instance, "mandateId": mandate, "featureCode": "chat", "label": "Chat", "enabled": True}
    ]
    assert await shop.accesses(mandate) == [
        {"instanceId": instance, "userId": user, "roles": ["admin"], "enabled": True}
    ]
    (told,) = await shop.activated(mandate, 1)
    assert (told.instance_id, told.user_id, told.price, told.billing_period) == (instance, user, None, None)
    assert (told.label_de, told.label_en, told.cause) == ("Chat", "Chat", answer.headers["x-request-id"])

    # Somebody else uses it too: the first only loses their own access.
    other = unique("u")
    await shop.enter(
        {"kind": "user", "id": other},
        {"kind": "feature_access", "instanceId": instance, "userId": other, "roles": ["user"]},
    )
    gone = await shop.deactivate(user, mandate, instance)
    assert gone.json() == {
        "featureCode": "chat",
        "mandateId": mandate,
        "instanceId": instance,
        "deactivated": True,
        "instanceDeleted": False,
    }
    assert [each["userId"] for each in await shop.accesses(mandate)] == [other]
    assert code_of(await shop.deactivate(user, mandate, instance)) == (404, "INSTANCE_UNKNOWN")
    # The last one need not be a member.
    last = await shop.deactivate(other, mandate, instance)
    assert (last.status_code, last.json()["instanceDeleted"]) == (200, True)
    assert await shop.instances(mandate) == await shop.accesses(mandate) == []
    # Nothing of it was ever to be paid.
    assert shop.payments.requests(mandate) == []


async def test_each_check_comes_before_the_next(shop: Shop) -> None:
    mandate, user = await shop.tenant()
    _, stranger = await shop.tenant()
    system, chief = await shop.tenant(isSystem=True)

    # What is not in the store is 404 before anything else, to whomever.
    for hidden in ("administration", "no-such-feature"):
        assert code_of(await shop.activate(stranger, mandate, hidden)) == (404, "FEATURE_UNKNOWN")
    # Then whose mandate it is; a system administrator is no exception, and a mandate of the operator is nobody's.
    for who, where in ((stranger, mandate), (user, unique("m")), (chief, system)):
        assert code_of(await shop.activate(who, where)) == (403, "NO_ADMIN")
    root = await shop.http.post(
        "/api/store/activate", json={"featureCode": "chat", "mandateId": mandate}, headers=shop.root
    )
    assert code_of(root) == (403, "NO_ADMIN")
    # Then the subscription, that may be used now.
    assert code_of(await shop.activate(user, mandate)) == (402, "NO_SUBSCRIPTION")
    subscription = await shop.subscribe(mandate, "STARTER", "PAST_DUE", complete=False)
    assert code_of(await shop.activate(user, mandate)) == (402, "NO_SUBSCRIPTION")
    await shop.execute("UPDATE subscriptions SET state = 'ACTIVE' WHERE id = $1", subscription)
    # Then its payment, then the limit.
    assert code_of(await shop.activate(user, mandate)) == (402, "STRIPE_INCOMPLETE")

    full, admin = await shop.tenant()
    await shop.subscribe(full, "TRIAL_7D", "TRIALING")
    lines = [
        {"kind": "feature_instance", "id": unique("i"), "mandateId": full, "featureCode": "automation"}
        for _ in range(3)
    ]
    await shop.enter(*lines)
    assert code_of(await shop.activate(admin, full)) == (402, "LIMIT_REACHED")
    assert await shop.states(full) == await shop.states(mandate) == []


@pytest.mark.parametrize("role", ["member", "Admin", "mandate-admin", "feature-admin"])
async def test_only_the_whole_role_administers(shop: Shop, role: str) -> None:
    mandate, user = await shop.tenant(roles=[role])
    await shop.subscribe(mandate, "TRIAL_7D", "TRIALING")
    assert code_of(await shop.activate(user, mandate)) == (403, "NO_ADMIN")
    (chat, *_) = (await shop.get("features", user)).json()
    assert chat["activatable"] == [{"mandateId": mandate, "allowed": False, "reason": "NO_ADMIN"}]
    assert chat["canActivate"] is False


async def test_of_twenty_activations_at_once_three_find_a_place(shop: Shop) -> None:
    mandate, user = await shop.tenant()
    await shop.subscribe(mandate, "TRIAL_7D", "TRIALING")
    answers = await asyncio.gather(*(shop.activate(user, mandate) for _ in range(20)))
    assert Counter(map(code_of, answers)) == {(200, None): 3, (402, "LIMIT_REACHED"): 17}
    made = {answer.json()["instanceId"] for answer in answers if answer.status_code == 200}
    assert {each["id"] for each in await shop.instances(mandate)} == made
    # One that goes makes room for one.
    assert (await shop.deactivate(user, mandate, made.pop())).status_code == 200
    again = await asyncio.gather(*(shop.activate(user, mandate) for _ in range(3)))
    assert Counter(map(code_of, again)) == {(200, None): 1, (402, "LIMIT_REACHED"): 2}


async def test_the_same_key_is_one_instance_and_with_another_feature_no_repeat(shop: Shop) -> None:
    mandate, user = await shop.tenant()
    await shop.subscribe(mandate, "TRIAL_7D", "TRIALING")
    key = str(uuid4())
    answers = await asyncio.gather(*(shop.activate(user, mandate, key=key) for _ in range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.json()["instanceId"] for answer in answers}) == len(await shop.instances(mandate)) == 1
    assert code_of(await shop.activate(user, mandate, "automation", key=key)) == (422, "IDEMPOTENCY_MISMATCH")
    # Without it, and with another one, each call makes one.
    assert (await shop.activate(user, mandate)).status_code == 200
    assert len(await shop.instances(mandate)) == 2


async def test_what_is_charged_is_paid_before_it_is_active(shop: Shop) -> None:
    mandate, user = await shop.tenant()
    subscription = await shop.subscribe(mandate, "STARTER")
    answer = await shop.activate(user, mandate, "automation", language="de")
    assert answer.status_code == 200, answer.text
    (asked,) = shop.payments.requests(mandate)
    assert (asked.subscription_id, asked.version, asked.paid_at_once) == (subscription, 1, True)
    assert (asked.quantities.members, asked.quantities.feature_instances) == (1, 1)
    assert asked.expires_at is not None
    (told,) = await shop.activated(mandate, 1)
    assert (told.label_de, told.label_en) == ("Automatisierung", "Automation")
    assert told.price is not None
    assert (told.price.amount, told.price.currency, told.billing_period) == (Decimal(9), "CHF", "month")
    assert (await shop.instances(mandate))[0]["label"] == "Automatisierung"

    # What is given up is charged no more, whenever Stripe has time for it.
    shop.payments.outcomes[mandate] = "unavailable"
    assert (await shop.deactivate(user, mandate, answer.json()["instanceId"], "automation")).status_code == 200
    await shop.settled(mandate)
    await eventually(lambda: len(shop.payments.requests(mandate)) == 2, what="less asked for")
    asked, lowered = shop.payments.requests(mandate)
    assert (lowered.version, lowered.paid_at_once, lowered.quantities.feature_instances) == (2, False, 0)


async def test_a_declined_payment_takes_everything_back(shop: Shop) -> None:
    mandate, user = await shop.tenant()
    await shop.subscribe(mandate, "STARTER")
    assert (await shop.activate(user, mandate)).status_code == 200
    shop.payments.outcomes[mandate] = "declined"
    key = str(uuid4())
    answer = await shop.activate(user, mandate, key=key)
    assert code_of(answer) == (402, "PAYMENT_DECLINED")
    # No word of Stripe's.
    assert "card" not in answer.text
    await shop.settled(mandate)
    assert await shop.states(mandate) == ["ACTIVE", "ROLLED_BACK"]
    assert len(await shop.instances(mandate)) == len(await shop.accesses(mandate)) == 1
    *_, declined, taken_back = shop.payments.requests(mandate)
    assert (declined.quantities.feature_instances, declined.paid_at_once) == (2, True)
    assert (taken_back.quantities.feature_instances, taken_back.paid_at_once) == (1, False)
    # The key began nothing that stands, so a repeat with a card that works is another try.
    del shop.payments.outcomes[mandate]
    assert (await shop.activate(user, mandate, key=key)).status_code == 200
    assert await shop.states(mandate) == ["ACTIVE", "ROLLED_BACK", "ACTIVE"]
    assert len(await shop.activated(mandate, 2)) == 2


async def test_accesses_given_meanwhile_keep_nothing_from_being_taken_back(shop: Shop) -> None:
    mandate, user = await shop.tenant()
    await shop.subscribe(mandate, "STARTER")
    shop.payments.outcomes[mandate] = None
    activating = asyncio.create_task(shop.activate(user, mandate))
    await eventually(lambda: shop.payments.requests(mandate), what="its payment asked for")
    (instance,) = await shop.instances(mandate)
    # More than one request to the directory can hold.
    others = [unique("u") for _ in range(25)]
    await shop.enter(
        *({"kind": "user", "id": other} for other in others),
        *(
            {"kind": "feature_access", "instanceId": instance["id"], "userId": other, "roles": ["user"]}
            for other in others
        ),
    )
    await shop.payments.settle(shop.payments.requests(mandate)[0], "declined")
    assert (await activating).status_code in (402, 503)
    await shop.settled(mandate)
    assert await shop.instances(mandate) == await shop.accesses(mandate) == []
    # One that the directory was given at the same moment as it was asked to take them all away.
    await shop.enter({"kind": "feature_access", "instanceId": instance["id"], "userId": others[0], "roles": ["user"]})
    await shop.execute("UPDATE activations SET state = 'ROLLING_BACK' WHERE mandate_id = $1", mandate)
    await shop.settled(mandate)
    assert await shop.accesses(mandate) == []
    assert await shop.states(mandate) == ["ROLLED_BACK"]


async def test_an_access_that_is_given_again_at_once_is_shown_again(shop: Shop) -> None:
    mandate, user = await shop.tenant()
    other = unique("u")
    await shop.subscribe(mandate, "TRIAL_7D", "TRIALING")
    instance = (await shop.activate(user, mandate)).json()["instanceId"]
    access = {"kind": "feature_access", "instanceId": instance, "userId": user, "roles": ["admin"]}
    await shop.enter({"kind": "user", "id": other}, {**access, "userId": other})
    assert (await shop.deactivate(user, mandate, instance)).status_code == 200
    await shop.settled(mandate)
    # As where the directory tells of a removal and of what was given again in one batch.
    removal, now = uuid4(), datetime.now(UTC)
    await shop.execute(
        "INSERT INTO removals (id, instance_id, mandate_id, user_id, instance_removed, cause, requested_at)"
        " VALUES ($1, $2, $3, $4, false, 'test', $5)",
        removal,
        instance,
        mandate,
        user,
        now,
    )
    await shop.enter(access)
    given = FeatureAccess(instance_id=instance, mandate_id=mandate, user_id=user, roles=["admin"])
    removed = DirectoryChanged(mandate_id=mandate, version=0, entry=given, cause=str(removal_request(removal)))
    await publish(shop.payments.producer, DIRECTORY_CHANGED_V1, removed, key=mandate)
    await shop.settled(mandate)
    found = (await shop.get("features", user)).json()
    assert [each["instanceId"] for feature in found for each in feature["instances"]] == [instance]


@pytest.mark.parametrize("outcome", ["unavailable", None])
async def test_a_payment_that_cannot_be_made_is_503_and_takes_everything_back(shop: Shop, outcome: str | None) -> None:
    mandate, user = await shop.tenant()
    await shop.subscribe(mandate, "STARTER")
    shop.payments.outcomes[mandate] = outcome
    answer = await shop.activate(user, mandate)
    assert code_of(answer) == (503, "UNAVAILABLE")
    assert int(answer.headers["retry-after"]) >= 1
    await shop.settled(mandate)
    assert await shop.states(mandate) == ["ROLLED_BACK"]
    assert await shop.instances(mandate) == await shop.accesses(mandate) == []
    assert shop.payments.requests(mandate)[-1].quantities.feature_instances == 0
    # An answer that comes after all changes nothing.
    first = shop.payments.requests(mandate)[0]
    await shop.payments.settle(first, "settled")
    del shop.payments.outcomes[mandate]
    assert (await shop.activate(user, mandate)).status_code == 200
    assert await shop.states(mandate) == ["ROLLED_BACK", "ACTIVE"]


async def test_activations_beside_each_other_are_paid_together_or_one_by_one(shop: Shop) -> None:
    mandate, user = await shop.tenant()
    await shop.subscribe(mandate, "STARTER")
    answers = await asyncio.gather(*(shop.activate(user, mandate) for _ in range(8)))
    assert Counter(map(code_of, answers)) == {(200, None): 5, (402, "LIMIT_REACHED"): 3}
    asked = shop.payments.requests(mandate)
    assert asked[-1].quantities.feature_instances == 5
    assert [request.version for request in asked] == list(range(1, 1 + len(asked)))
    assert all(request.paid_at_once for request in asked)


async def test_a_payment_that_took_the_place_of_another_decides_both(shop: Shop) -> None:
    mandate, user = await shop.tenant()
    await shop.subscribe(mandate, "STARTER")
    shop.payments.outcomes[mandate] = None
    both = asyncio.gather(shop.activate(user, mandate), shop.activate(user, mandate))
    await eventually(lambda: len(shop.payments.requests(mandate)) == 2, what="both asked for")
    first, second = shop.payments.requests(mandate)
    await shop.payments.settle(first, "superseded")
    await shop.payments.settle(second, "declined")
    assert Counter(map(code_of, await both)) == {(402, "PAYMENT_DECLINED"): 2}
    await shop.settled(mandate)
    assert shop.payments.requests(mandate)[-1].quantities.feature_instances == 0


async def test_deactivation_is_for_who_has_access_to_that_instance_in_that_mandate(shop: Shop) -> None:
    mandate, user = await shop.tenant()
    other, stranger = await shop.tenant()
    await shop.subscribe(mandate, "TRIAL_7D", "TRIALING")
    instance = (await shop.activate(user, mandate)).json()["instanceId"]
    for who, where, which, feature in (
        (stranger, mandate, instance, "chat"),
        (stranger, other, instance, "chat"),
        (user, other, instance, "chat"),
        (user, mandate, instance, "automation"),
        (user, mandate, unique("i"), "chat"),
    ):
        assert code_of(await shop.deactivate(who, where, which, feature)) == (404, "INSTANCE_UNKNOWN")
    assert len(await shop.accesses(mandate)) == 1
    # Twice at once is once.
    answers = await asyncio.gather(*(shop.deactivate(user, mandate, instance) for _ in range(3)))
    assert Counter(map(code_of, answers)) == {(200, None): 1, (404, "INSTANCE_UNKNOWN"): 2}


async def test_the_last_two_users_who_leave_at_once_take_the_instance_along(shop: Shop) -> None:
    mandate, user = await shop.tenant()
    await shop.subscribe(mandate, "TRIAL_7D", "TRIALING")
    instance, other = (await shop.activate(user, mandate)).json()["instanceId"], unique("u")
    await shop.enter(
        {"kind": "user", "id": other},
        {"kind": "feature_access", "instanceId": instance, "userId": other, "roles": ["user"]},
    )
    answers = await asyncio.gather(*(shop.deactivate(who, mandate, instance) for who in (user, other)))
    assert sorted(answer.json()["instanceDeleted"] for answer in answers) == [False, True]
    assert await shop.instances(mandate) == await shop.accesses(mandate) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"mandateId": "m"}, "featureCode"),
        ({"featureCode": 5, "mandateId": "m"}, "featureCode"),
        ({"featureCode": "chat"}, "mandateId"),
        ({"featureCode": "chat", "mandateId": "not an id"}, "mandateId"),
        ({"featureCode": "chat", "mandateId": None}, "mandateId"),
    ],
)
async def test_a_bad_body_names_its_field(shop: Shop, body: dict[str, object], field: str) -> None:
    answer = await shop.http.post("/api/store/activate", json=body, headers=shop.headers(unique("u")))
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == [field]


async def test_refusals_are_in_the_callers_language(shop: Shop) -> None:
    mandate, user = await shop.tenant()
    answer = await shop.activate(user, mandate, language="de-CH")
    assert answer.json()["detail"] == "Der Mandant hat kein aktives Abonnement; bitte zuerst einen Plan beginnen."


async def test_the_outcome_is_a_notice_to_who_waits_in_the_same_process_and_found_by_who_waits_in_another(
    shop: Shop,
) -> None:
    mandate, user = await shop.tenant()
    subscription = await shop.subscribe(mandate, "STARTER")
    shop.payments.outcomes[mandate] = None
    waiting = asyncio.create_task(shop.activate(user, mandate))
    await eventually(lambda: shop.payments.requests(mandate), what="the payment asked for")
    notice = shop.database.notice(OUTCOMES)
    notice.clear()
    now = system_clock()
    settled = QuantitySettled(
        mandate_id=mandate,
        subscription_id=subscription,
        request_id=uuid4(),
        version=1,
        outcome="settled",
        settled_at=now,
        cause="test",
    )
    async with shop.database.transaction() as connection:
        assert await payments_were_settled(connection, [settled], now=now) == 1
        assert not notice.is_set()
    assert notice.is_set()
    assert (await waiting).status_code == 200
