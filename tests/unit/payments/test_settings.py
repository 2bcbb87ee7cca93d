"""Which configurations are refused before anything runs."""

from contextlib import nullcontext
from typing import Any

import pytest
from pydantic import ValidationError

from services.payments.settings import PaymentsSettings

COMMON: dict[str, Any] = {
    "database_url": "postgresql://u:p@127.0.0.1:1/d",
    "kafka": {"bootstrap_servers": "127.0.0.1:1"},
    "http": {"port": 1},
    "internal_secret": "s" * 32,
}
FAKE = "http://127.0.0.1:9"


def settings(environment: str, **more: Any) -> PaymentsSettings:
    return PaymentsSettings(**{**COMMON, "environment": environment, **more})


@pytest.mark.parametrize(
    ("environment", "stripe"),
    [
        ("production", {"api_key": "sk_live_a", "api_base": FAKE}),
        ("production", {"api_key": "sk_test_a", "api_base": FAKE, "livemode": False}),
        ("production", {"api_key": "sk_test_a"}),
        ("production", {"api_key": "rk_live_a", "livemode": False}),
        ("development", {"api_key": "sk_live_a"}),
        ("development", {"api_key": "sk_live_a", "api_base": FAKE, "livemode": True}),
        ("development", {"api_key": "pk_test_a"}),
        ("development", {"api_base": FAKE}),
        ("development", {"api_key": "sk_test_a", "webhook_secrets": ["whsec_a", " "]}),
        ("development", {"api_key": "sk_test_a", "webhook_secrets": ["a", "b", "c"]}),
    ],
)
def test_a_configuration_that_mixes_test_and_real_money_is_refused(environment: str, stripe: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(environment, stripe=stripe)


@pytest.mark.parametrize(
    ("environment", "stripe", "live"),
    [
        ("production", {"api_key": "rk_live_a"}, True),
        ("production", {"api_key": "sk_test_a", "livemode": False}, False),
        ("development", {"api_key": "sk_test_a", "api_base": FAKE}, False),
        ("production", {}, True),
    ],
)
def test_a_configuration_that_says_what_it_means_is_taken(environment: str, stripe: dict[str, Any], live: bool) -> None:
    assert settings(environment, stripe=stripe).livemode is live


@pytest.mark.parametrize(
    ("at", "taken"),
    [
        ("2026-11-01T00:00:00Z", True),
        ("2026-11-01T00:00:00.000+01:00", True),
        ("2026-11-01T00:00:00", False),
        ("2026-11-01T00:00:00.5Z", False),
    ],
)
def test_a_take_over_is_at_a_whole_second_with_an_offset(at: str, taken: bool) -> None:
    with nullcontext() if taken else pytest.raises(ValidationError):
        settings("development", stripe={"taken_over_at": at})


@pytest.mark.parametrize("amounts", [[], ["0"], ["-10"], ["10.005"], ["NaN"]])
def test_amounts_that_cannot_be_charged_are_refused(amounts: list[str]) -> None:
    with pytest.raises(ValidationError):
        settings("development", top_up_amounts=amounts)


@pytest.mark.parametrize(
    "origin", ["app.example.ch", "https://app.example.ch/x", "https://a@b.ch", "https://b.ch?x", "*"]
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError):
        settings("development", return_origins=[origin])


def test_every_origin_of_the_payers_own_machine_is_for_development() -> None:
    assert settings("development", loopback_origins=True).loopback_origins
    with pytest.raises(ValidationError, match="loopback_origins is for development"):
        settings("production", loopback_origins=True)


def test_origins_are_kept_in_their_one_spelling() -> None:
    assert settings("development", return_origins=["HTTPS://App.Example.ch:443/"]).return_origins == (
        "https://app.example.ch",
    )
