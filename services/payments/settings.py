"""The settings of the payments service (`PAYMENTS_*`)."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from services.chassis.return_url import Marks, Origin, Parameter, ReturnOrigins, ReturnUrls, return_urls
from services.chassis.settings import ServiceSettings, SettingsGroup
from services.payments.stripe.gateway import to_minor

__all__ = ["PaymentsSettings"]

_API_KEY = re.compile(r"(?:sk|rk)_(test|live)_[A-Za-z0-9_]+", re.ASCII)


def _api_key(key: SecretStr) -> SecretStr:
    if not _API_KEY.fullmatch(key.get_secret_value()):
        raise ValueError("an API key begins with sk_test_, rk_test_, sk_live_ or rk_live_")
    return key


def _webhook_secret(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().strip():
        raise ValueError("a blank secret would let anybody sign")
    return secret


def _whole_second(at: datetime) -> datetime:
    if at.microsecond:
        raise ValueError("Stripe's times are whole seconds, so what happened within one would count as before it")
    return at


def _offered(amounts: tuple[Decimal, ...]) -> tuple[Decimal, ...]:
    for amount in amounts:
        if to_minor(amount, "CHF") <= 0:
            raise ValueError("an amount is above zero")
    return tuple(sorted(set(amounts)))


class StripeSettings(SettingsGroup):
    """The account at Stripe. Two webhook secrets are accepted while one is being replaced by the other."""

    # Without a key nothing can be paid; everything else works.
    api_key: Annotated[SecretStr, AfterValidator(_api_key)] | None = None
    # Another address than Stripe's own: the fake of development.
    api_base: str | None = None
    webhook_secrets: tuple[Annotated[SecretStr, AfterValidator(_webhook_secret)], ...] = Field(default=(), max_length=2)
    # Whether real money is meant; unset: exactly in production. A rehearsal in production says false.
    livemode: bool | None = None
    timeout_s: float = Field(default=10, gt=0, le=80)
    # Since when money of this account is settled here, where another system did so before.
    taken_over_at: Annotated[AwareDatetime, AfterValidator(_whole_second)] | None = None

    @property
    def key_is_live(self) -> bool | None:
        """Whether the key moves real money; None without a key."""
        found = _API_KEY.fullmatch(self.api_key.get_secret_value()) if self.api_key is not None else None
        return None if found is None else found[1] == "live"


class PaymentsSettings(ServiceSettings):
    """Beside what all services share: Stripe, what can be topped up, and where payers may be sent back to."""

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_", env_nested_delimiter="__", frozen=True, extra="forbid")

    stripe: StripeSettings = StripeSettings()
    return_origins: tuple[Origin, ...] = ()
    # Also pages on this machine, whatever their port.
    loopback_origins: bool = False
    # The page for who confirms a recharge in person; unset: the first of the origins.
    frontend_url: str | None = None
    # CHF that checkout/create accepts.
    top_up_amounts: Annotated[tuple[Decimal, ...], AfterValidator(_offered)] = Field(
        default=tuple(map(Decimal, (10, 25, 50, 100, 250, 500))), min_length=1
    )
    # How often the last days are compared with Stripe, and whether what is safe is healed then.
    reconcile_interval_s: float = Field(default=86_400, gt=0)
    reconcile_apply: bool = False
    # Days that an event of the webhook is kept after it came, once it is processed. Stripe sends one again for a month
    # at most; its body names payers.
    keep_events_days: int = Field(default=90, ge=35)
    # The same of settled requests; longer than a topic keeps what asked for them.
    keep_requests_days: int = Field(default=400, ge=35)
    # The parameters added to a return URL.
    return_success_parameter: Parameter = "success"
    return_session_parameter: Parameter = "session_id"
    return_canceled_parameter: Parameter = "canceled"
    database_pool_size: int = Field(default=10, ge=4, le=100)

    @property
    def return_marks(self) -> Marks:
        """The names of the parameters added to a return URL."""
        return Marks(
            success=self.return_success_parameter,
            session_id=self.return_session_parameter,
            canceled=self.return_canceled_parameter,
        )

    @property
    def confirmation_pages(self) -> ReturnUrls | None:
        """Where somebody comes back to who confirmed a recharge in person; None where no page is configured."""
        origins = ReturnOrigins(self.return_origins, self.loopback_origins)
        page = self.frontend_url or next(iter(self.return_origins), None)
        return None if page is None else return_urls(page, origins=origins, marks=self.return_marks)

    @property
    def livemode(self) -> bool:
        """Whether real money is meant here."""
        return self.stripe.livemode if self.stripe.livemode is not None else self.environment == "production"

    @model_validator(mode="after")
    def _payers_come_back_to_us(self) -> Self:
        if self.environment == "production" and self.loopback_origins:
            raise ValueError("loopback_origins is for development")
        return self

    @model_validator(mode="after")
    def _money_is_meant(self) -> Self:
        """The key's mode must be that of `livemode`, and a live key is refused with any other address than Stripe's."""
        live = self.stripe.key_is_live
        if self.stripe.api_base is not None:
            if self.environment == "production":
                raise ValueError("stripe.api_base is for development")
            if live is not False:
                raise ValueError("stripe.api_base needs a test key")
        if live is not None and live != self.livemode:
            raise ValueError(f"stripe.api_key is a {'live' if live else 'test'} key, and the other kind is expected")
        return self
