"""What the store decides by itself: the steps of an activation, the reasons against one, the catalogue of features."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from services.subscriptions.catalogue_files import CatalogueInvalid
from services.subscriptions.settings import SubscriptionsSettings
from services.subscriptions.store.catalogue import read_features
from services.subscriptions.store.domain import (
    Activation,
    OpenRemoval,
    Plight,
    Step,
    is_applied,
    next_step,
    personal_ids,
    reason_against,
    removal_request,
)
from services.subscriptions.store.errors import FeatureUnknown

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SHIPPED: Path = SubscriptionsSettings.model_fields["features_file"].default

ACTIVATION = Activation(
    instance_id=uuid4(),
    mandate_id="m",
    user_id="u",
    feature_code="chat",
    label_de="Unterhaltung",
    label_en="Chat",
    subscription_id=uuid4(),
    price=Decimal(9),
    billing_period="month",
    paid_at_once=True,
    state="PROVISIONING",
    failure=None,
    quantity_version=None,
    language="en",
    cause="test",
    deadline_at=NOW + timedelta(seconds=6),
)
NOWHERE, THERE, GONE = Plight(False, False), Plight(True, False), Plight(False, True)


@pytest.mark.parametrize(
    ("changed", "plight", "late", "step"),
    [
        ({}, NOWHERE, False, Step.WAIT),
        ({}, THERE, False, Step.PAY),
        ({"paid_at_once": False}, THERE, False, Step.FINISH),
        # Nobody waits any more, so it is not even begun to be paid.
        ({}, THERE, True, Step.ROLL_BACK),
        ({}, NOWHERE, True, Step.ROLL_BACK),
        ({"state": "BILLING"}, THERE, False, Step.WAIT),
        ({"state": "BILLING"}, THERE, True, Step.ROLL_BACK),
        # What is not there at all may still be on its way.
        ({"state": "ROLLING_BACK"}, NOWHERE, True, Step.WAIT),
        ({"state": "ROLLING_BACK"}, THERE, True, Step.WAIT),
        ({"state": "ROLLING_BACK"}, GONE, False, Step.CLOSE),
        ({"state": "ROLLING_BACK"}, Plight(False, False, left=7), False, Step.RELEASE),
        ({"state": "ACTIVE"}, GONE, True, Step.WAIT),
        ({"state": "ROLLED_BACK"}, THERE, True, Step.WAIT),
    ],
)
def test_the_next_step_follows_from_state_directory_and_time(
    changed: dict[str, Any], plight: Plight, late: bool, step: Step
) -> None:
    now = NOW + timedelta(seconds=6 if late else 5)
    assert next_step(replace(ACTIVATION, **changed), plight, now=now) is step


def test_the_first_reason_that_applies_is_given() -> None:
    found = {
        flags: reason_against(administers=flags[0], operative=flags[1], stripe_complete=flags[2], limit=3, in_use=used)
        for flags in product((True, False), repeat=3)
        for used in (3,)
    }
    for (administers, operative, complete), reason in found.items():
        first = "LIMIT_REACHED" if complete else "STRIPE_INCOMPLETE"
        first = first if operative else "NO_SUBSCRIPTION"
        assert reason == (first if administers else "NO_ADMIN")


@pytest.mark.parametrize(
    ("limit", "in_use", "allowed"), [(3, 2, True), (3, 3, False), (0, 0, False), (None, 900, True)]
)
def test_a_limit_counts_what_is_in_use(limit: int | None, in_use: int, allowed: bool) -> None:
    reason = reason_against(administers=True, operative=True, stripe_complete=True, limit=limit, in_use=in_use)
    assert (reason is None) is allowed


def test_an_instance_is_labelled_in_the_language_of_who_activates_it() -> None:
    assert ACTIVATION.label == "Chat"
    assert replace(ACTIVATION, language="de").label == "Unterhaltung"


def test_the_ids_of_a_personal_mandate_follow_from_its_user() -> None:
    assert personal_ids("jo") == personal_ids("jo")
    assert len({*personal_ids("jo"), *personal_ids("Jo")}) == 6


def test_the_shipped_catalogue_shows_what_is_in_the_store_and_hides_the_rest() -> None:
    features = read_features(SHIPPED)
    hidden = [each["featureCode"] for each in json.loads(SHIPPED.read_text())["features"] if not each["shown"]]
    assert hidden
    assert {"chat", "automation"} <= {feature.code for feature in features.shown}
    for code in (*hidden, "no-such-feature", ""):
        with pytest.raises(FeatureUnknown):
            features.in_store(code)


def feature(**changed: Any) -> dict[str, Any]:
    entry = {"featureCode": "chat", "shown": True, "label": {"de": "Chat", "en": "Chat"}, **changed}
    return {name: value for name, value in entry.items() if value is not None}


def written(folder: Path, *features: dict[str, Any]) -> Path:
    path = folder / "features.json"
    path.write_text(json.dumps({"features": features}))
    return path


def test_icon_and_description_have_defaults(tmp_path: Path) -> None:
    (read,) = read_features(written(tmp_path, feature())).shown
    assert (read.icon, read.description) == ("mdi-puzzle", {})
    (read,) = read_features(written(tmp_path, feature(description={"de": "Ein Text."}, icon="mdi-chat"))).shown
    assert (read.icon, read.description) == ("mdi-chat", {"de": "Ein Text."})


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([feature(featureCode=None)], "features.0.featureCode: is required"),
        ([feature(shown="yes")], "features.0.shown"),
        ([feature(label={"de": "Chat"})], "features.0.label.en: is required"),
        ([feature(label={"de": "Chat", "en": ""})], "features.0.label.en"),
        ([feature(price="9.00")], "features.0.price"),
        ([feature(), feature()], "more than one feature with the code chat"),
    ],
)
def test_a_catalogue_with_a_fault_is_refused_with_its_place(
    tmp_path: Path, entries: list[dict[str, Any]], said: str
) -> None:
    path = written(tmp_path, *entries)
    with pytest.raises(CatalogueInvalid) as refused:
        read_features(path)
    assert str(path) in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("instance_removed", "holds", "stands", "told", "applied"),
    [
        (False, True, True, (), False),
        (False, False, True, (), True),
        (True, False, True, (), False),
        (True, False, False, (), True),
        # What was given again since keeps nothing open.
        (False, True, True, ("feature_access",), True),
        (True, True, True, ("feature_access",), False),
        (True, True, False, ("feature_access",), True),
        (True, True, True, ("feature_access", "feature_instance"), True),
    ],
)
def test_a_removal_is_carried_out_when_the_directory_has_told_so(
    instance_removed: bool, holds: bool, stands: bool, told: tuple[str, ...], applied: bool
) -> None:
    removal = OpenRemoval(uuid4(), instance_removed, holds, stands)
    causes = {(str(removal_request(removal.id)), kind) for kind in told}
    assert is_applied(removal, causes | {("another", "feature_access"), ("another", "feature_instance")}) is applied
