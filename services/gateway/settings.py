"""The settings of the gateway (`GATEWAY_*`)."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_settings import SettingsConfigDict

from rappen_contracts.types import Name
from services.chassis.settings import HttpSettings, ServiceSettings, SettingsGroup

__all__ = ["GatewaySettings", "Origin", "RateLimitSettings"]

# Asymmetric algorithms only: with a shared secret, every verifier could also sign.
SigningAlgorithm = Literal["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s?#]+$")]
Origin = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#*]+$")]


class OidcSettings(SettingsGroup):
    """The identity provider whose bearer tokens are accepted; its keys are found by discovery unless named."""

    issuer: HttpUrl
    audience: str = "rappen"
    jwks_url: HttpUrl | None = None
    algorithms: tuple[SigningAlgorithm, ...] = Field(default=("ES256", "RS256", "EdDSA"), min_length=1)


class DevIssuerSettings(SettingsGroup):
    """The issuer of a development stack: only the public half of its EC P-256 key (PEM) is used here."""

    issuer: str
    private_key_file: Path
    audience: str = "rappen"


class RateLimitSettings(SettingsGroup):
    """Requests a minute; a person's differ by operation, where `overrides` (by operation id) replaces them."""

    enabled: bool = True
    # Counted by all gateways together, in the database, and not by each for itself: needed by more than one.
    shared: bool = False
    overrides: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    # One limit per operation for each service account; none unless set.
    service_account: int | None = Field(default=None, ge=1)


class GatewaySettings(ServiceSettings):
    """Beside what all services share: who issues tokens, where the services and the frontend are, limits."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", env_nested_delimiter="__", frozen=True, extra="forbid")

    # Health and metrics, for the operator; `http` is the public port.
    internal_http: HttpSettings
    oidc: OidcSettings | None = None
    dev_issuer: DevIssuerSettings | None = None
    # The names of the services in compose.yaml.
    billing_url: HttpUrl = "http://billing:8000"
    payments_url: HttpUrl = "http://payments:8000"
    subscriptions_url: HttpUrl = "http://subscriptions:8000"
    frontend_origins: tuple[Origin, ...] = ()
    # Also a frontend on this machine, whatever its port.
    loopback_origins: bool = False
    context_header: str = "X-Mandate-Id"
    rate_limits: RateLimitSettings = RateLimitSettings()
    # Roles of members in mandates, which provider permissions are given to, and of people on feature instances.
    member_roles: tuple[Name, ...] = Field(default=("admin", "member"), min_length=1)
    access_roles: tuple[Name, ...] = Field(default=("admin", "user"), min_length=1)
    page_size_max: int = Field(default=1000, ge=1)
    # Events taken over HTTP and not yet acknowledged by Kafka; beyond it requests are refused for a moment.
    usage_in_flight_max: int = Field(default=20_000, ge=1)
    # Callers of the live feed that one process serves at the same time, and after how long it is looked again at what
    # each of them may see.
    streams_max: int = Field(default=1_000, ge=1)
    stream_renewal_s: float = Field(default=15.0, ge=0.1, le=60)
    database_pool_size: int = Field(default=8, ge=2, le=100)

    @model_validator(mode="after")
    def _limits_hold_for_all(self) -> Self:
        if self.http.shared and self.rate_limits.enabled and not self.rate_limits.shared:
            raise ValueError("several gateways on one port need rate_limits.shared: each would count for itself")
        return self

    @model_validator(mode="after")
    def _issuer_is_trustworthy(self) -> Self:
        if self.environment != "production":
            return self
        if self.dev_issuer is not None:
            raise ValueError("dev_issuer is for development")
        if not self.rate_limits.enabled:
            raise ValueError("rate limits may be lifted in development only")
        if self.loopback_origins:
            raise ValueError("loopback_origins is for development")
        if self.oidc is not None and not all(
            url.startswith("https://") for url in (self.oidc.issuer, self.oidc.jwks_url or self.oidc.issuer)
        ):
            raise ValueError("the identity provider is reached by https")
        return self
