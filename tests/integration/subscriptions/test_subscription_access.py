"""Who may see and change what, and in which order it is said."""

import pytest

from rappen_contracts.directory.v1 import FeatureInstance, Mandate, Membership
from services.chassis.caller import Caller
from tests.integration.subscriptions.harness import Service, new_admin_of, new_member_of
from tests.support.callers import system_admin
from tests.support.events import new_mandate

PROGRAM = Caller(user_id="program", service=True, scopes=frozenset(["usage:check"]))


@pytest.mark.parametrize("body", [{"planKey": "TRIAL_7D"}, {"planKey": "FREE"}, {}, {"planKey": 1, "more": 2}])
async def test_a_foreign_mandate_is_403_before_anything_else(service: Service, body: dict[str, object]) -> None:
    mandate_id = new_mandate()
    for caller in (new_admin_of(new_mandate()), new_member_of(mandate_id), PROGRAM):
        answer = await service.post(mandate_id, caller, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
    for caller in (new_admin_of(new_mandate()), PROGRAM):
        assert (await service.get(mandate_id, caller)).status_code == 403


async def test_without_a_signed_caller_nothing_is_answered(service: Service) -> None:
    for path in ("plans", new_mandate()):
        assert (await service.http.get(f"/api/subscriptions/{path}")).status_code == 401


async def test_a_mandate_that_does_not_exist_is_404_to_the_operator_alone(service: Service) -> None:
    for mandate_id in (new_mandate(), "a%00b"):
        assert (await service.get(mandate_id, system_admin())).status_code == 404
        answer = await service.start(mandate_id, "INTERNAL", system_admin())
        assert (answer.status_code, answer.json()["code"]) == (404, "MANDATE_UNKNOWN")
    assert (await service.get(new_mandate(), new_member_of("other"))).status_code == 403


async def test_a_mandate_without_a_subscription_has_every_name_and_no_value(service: Service) -> None:
    mandate_id = new_mandate()
    answer = await service.get(mandate_id, new_member_of(mandate_id))
    assert answer.status_code == 200
    assert answer.json() == dict.fromkeys(
        [
            "id",
            "mandateId",
            "planKey",
            "status",
            "recurring",
            "currentPeriodStart",
            "currentPeriodEnd",
            "effectiveFrom",
            "trialEndsAt",
            "quantities",
            "scheduled",
        ]
    )


async def test_quantities_are_the_enabled_members_and_instances(service: Service) -> None:
    mandate_id = new_mandate()
    await service.publish_directory(
        mandate_id,
        [
            (1, Mandate(id=mandate_id)),
            (2, Membership(mandate_id=mandate_id, user_id="a", roles=["admin"])),
            (3, Membership(mandate_id=mandate_id, user_id="b", roles=["member"])),
            (4, Membership(mandate_id=mandate_id, user_id="c", roles=["member"], enabled=False)),
            (5, FeatureInstance(id=f"{mandate_id}-i", mandate_id=mandate_id, feature_code="chat")),
        ],
    )
    answer = await service.start(mandate_id, "TRIAL_7D", system_admin())
    assert answer.json()["subscription"]["quantities"] == {"members": 2, "featureInstances": 1}


async def test_every_person_sees_the_plans_and_no_program_does(service: Service) -> None:
    assert (await service.get("plans", PROGRAM)).status_code == 403
    answer = await service.get("plans", new_member_of())
    assert answer.status_code == 200
    plans = {plan["planKey"]: plan for plan in answer.json()}
    assert list(plans) == ["TRIAL_7D", "STARTER", "TEAM", "ENTERPRISE", "INTERNAL"]
    assert plans["ENTERPRISE"] == {
        "planKey": "ENTERPRISE",
        "label": {"de": "Enterprise", "en": "Enterprise"},
        "pricePerUser": {"amount": "290.000000", "currency": "CHF"},
        "pricePerFeatureInstance": {"amount": "60.000000", "currency": "CHF"},
        "storagePricePerGbMonth": {"amount": "0.300000", "currency": "CHF"},
        "billingPeriod": "year",
        "maxUsers": None,
        "maxFeatureInstances": None,
        "maxDataVolumeMB": None,
        "budgetAi": {"amount": "1000.000000", "currency": "CHF"},
        "budgetPer": "mandate",
        "rollover": True,
        "trialDays": 0,
        "requiresStripe": True,
        "markupPercent": 30,
        "operatorOnly": False,
    }


async def test_a_body_that_is_not_understood_is_422_to_an_admin(service: Service) -> None:
    mandate_id = new_mandate()
    for body in ({}, {"planKey": 1}, {"planKey": "T", "returnUrl": 5}):
        answer = await service.post(mandate_id, new_admin_of(mandate_id), json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION")
    headers = {**service.headers(new_admin_of(mandate_id)), "Content-Type": "application/json"}
    for number in ("1e999999999", "1e99999999999999999999", "9" * 5000):
        body = f'{{"planKey": "TEAM", "more": {number}}}'
        answer = await service.http.post(f"/api/subscriptions/{mandate_id}", headers=headers, content=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "NUMBER_OUT_OF_RANGE")


async def test_refusals_are_told_in_german_too(service: Service) -> None:
    mandate_id = new_mandate()
    headers = {**service.headers(new_admin_of(mandate_id)), "Accept-Language": "de-CH"}
    answer = await service.http.post(f"/api/subscriptions/{mandate_id}", headers=headers, json={"planKey": "TEAM"})
    assert answer.json()["detail"].startswith("Die Rücksprungadresse muss")
