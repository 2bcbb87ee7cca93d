"""Settings that production refuses, and values that stay values in a path."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from services.gateway.edge.forwarding import path_of
from services.gateway.settings import GatewaySettings

BASE: dict[str, Any] = {
    "environment": "production",
    "database_url": "postgresql://gateway@localhost/rappen",
    "kafka": {"bootstrap_servers": "localhost:9092"},
    "http": {"port": 8080},
    "internal_http": {"port": 8000},
    "internal_secret": "s" * 32,
    "oidc": {"issuer": "https://id.example.test"},
}


def test_production_takes_a_provider_by_https() -> None:
    settings = GatewaySettings(**BASE)
    assert settings.oidc is not None
    assert settings.oidc.algorithms == ("ES256", "RS256", "EdDSA")


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"dev_issuer": {"issuer": "x", "private_key_file": "/key.pem"}}, "dev_issuer is for development"),
        ({"rate_limits": {"enabled": False}}, "rate limits"),
        ({"oidc": {"issuer": "http://id.example.test"}}, "https"),
        ({"oidc": {"issuer": "https://id.example.test", "jwks_url": "http://id.example.test/keys"}}, "https"),
        ({"oidc": {"issuer": "https://id.example.test", "algorithms": ["HS256"]}}, "algorithms"),
        ({"oidc": {"issuer": "https://id.example.test", "algorithms": ["none"]}}, "algorithms"),
        ({"frontend_origins": ["*"]}, "frontend_origins"),
        ({"frontend_origins": ["https://app.test/path"]}, "frontend_origins"),
        ({"loopback_origins": True}, "loopback_origins is for development"),
        ({"internal_secret": "short"}, "internal_secret"),
    ],
)
def test_production_refuses_what_is_unsafe(change: dict[str, Any], phrase: str) -> None:
    with pytest.raises(ValidationError, match=phrase):
        GatewaySettings(**{**BASE, **change})


@pytest.mark.parametrize(
    ("value", "path"),
    [("a", "/x/a/y"), ("..", "/x/%2E%2E/y"), (".", "/x/%2E/y"), ("a|b@c:d", "/x/a%7Cb@c:d/y"), ("a..", "/x/a../y")],
)
def test_a_value_is_one_segment_of_the_path(value: str, path: str) -> None:
    assert path_of("/x/{id}/y", {"id": value}) == path
