"""The settings of the billing service (`BILLING_*`)."""

from decimal import Decimal
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from services.chassis.settings import ServiceSettings, SettingsGroup

__all__ = ["WARNING_MAIL_INTERVAL_S", "BillingSettings", "InvoiceSettings", "Seller"]

# Where nothing else is set, also for commands of operators.
WARNING_MAIL_INTERVAL_S = 3_600


def _known(zone: str) -> str:
    try:
        ZoneInfo(zone)
    except (LookupError, OSError) as error:
        raise ValueError(f"{zone!r} is no time zone that this machine knows") from error
    return zone


class Seller(SettingsGroup):
    """Who issues the invoices, as the law wants it on them, and the account that they are paid to."""

    name: str = Field(min_length=1, max_length=70)
    street: str = Field(min_length=1, max_length=70)
    zip: str = Field(min_length=1, max_length=16)
    city: str = Field(min_length=1, max_length=35)
    country: str = Field(default="CH", pattern=r"^[A-Z]{2}$")
    # As it is written on invoices, such as CHE-123.456.788 MWST.
    vat_number: str = Field(min_length=1, max_length=40)
    # Of Switzerland or Liechtenstein; with a QR-IBAN, payments have a QR reference, else a creditor reference.
    iban: str = Field(pattern=r"^(CH|LI)[0-9]{2}[0-9]{5}[0-9A-Z]{12}$")


# Stands in for the operator in development.
_EXAMPLE_SELLER = Seller(
    name="Example Platform AG",
    street="Musterstrasse 1",
    zip="8000",
    city="Zürich",
    vat_number="CHE-123.456.788 MWST",
    iban="CH9300762011623852957",
)


class InvoiceSettings(SettingsGroup):
    """What the invoices of CREDIT_POSTPAY depend on. Without a seller there are none."""

    seller: Seller | None = None
    language: Literal["de", "en"] = "de"
    # A month is closed this long after its end; what of it is booked later is on the next invoice.
    close_after_s: int = Field(default=3_600, ge=0, le=28 * 86_400)
    due_after_days: int = Field(default=30, ge=0, le=365)
    # Less than this waits for the next invoice, because a payment costs more than it brings.
    minimum_chf: Decimal = Field(default=Decimal("0.50"), ge=0, le=1_000, decimal_places=2)


class BillingSettings(ServiceSettings):
    """Beside what all services share: the global markup, the providers, where the platform's periods begin."""

    model_config = SettingsConfigDict(env_prefix="BILLING_", env_nested_delimiter="__", frozen=True, extra="forbid")

    # Percent on top of the provider's cost, where neither mandate nor plan says otherwise.
    default_markup_percent: Decimal = Field(default=Decimal(50), ge=0)
    # Providers beside those of the price book, and the roles that may use every provider by default.
    additional_providers: tuple[str, ...] = (
        "anthropic",
        "azure",
        "bedrock",
        "cohere",
        "deepseek",
        "google",
        "groq",
        "mistral",
        "openai",
        "openrouter",
        "xai",
    )
    provider_roles: tuple[str, ...] = ("admin", "member")
    # Ceilings of the amounts in one request, so that a mistake stays small: for a manual credit or deduction, a
    # member's opening credit and a recharge; and for a credit limit.
    amount_max_chf: Decimal = Field(default=Decimal(100_000), gt=0, le=10**10, max_digits=16, decimal_places=6)
    credit_limit_max_chf: Decimal = Field(default=Decimal(1_000_000), gt=0, le=10**12, max_digits=18, decimal_places=6)
    # For how long no second mail about the low balance of an account is due; the event is published each time.
    warning_mail_interval_s: int = Field(default=WARNING_MAIL_INTERVAL_S, ge=0, le=366 * 86_400)
    # For how long payments may try a recharge, which blocks another one of its account; and how long after a declined
    # one the next is requested where the balance has stayed low.
    recharge_timeout_s: int = Field(default=86_400, ge=60, le=366 * 86_400)
    recharge_retry_s: int = Field(default=86_400, ge=0, le=366 * 86_400)
    # How long after its end (UTC) a day of the ledger is closed and sealed: what a worker that stood still, or whose
    # clock is behind, still has to record by then is recorded on the next day.
    seal_after_s: int = Field(default=900, ge=0, le=10**9)
    # Lists: rows of a page, distinct values of a column in an answer, seconds that one statement may take the database.
    page_size_max: int = Field(default=1000, ge=1, le=10_000)
    filter_values_max: int = Field(default=10_000, ge=1, le=1_000_000)
    list_statement_s: float = Field(default=4.0, gt=0, le=600)
    # Exports that a process runs at once, each with a connection of its own, and the seconds that one may take in all.
    exports_max: int = Field(default=2, ge=1, le=100)
    export_s: float = Field(default=600.0, gt=0, le=86_400)
    # How long after the last usage of a mandate nobody wonders yet, however dense its usage was before.
    publisher_silence_min_s: int = Field(default=3_600, ge=60, le=366 * 86_400)
    # The time zone of what is about several mandates, whose own may differ.
    time_zone: Annotated[str, AfterValidator(_known)] = "Europe/Zurich"
    invoices: InvoiceSettings = InvoiceSettings()
    database_pool_size: int = Field(default=8, ge=2, le=100)

    @property
    def invoicing(self) -> InvoiceSettings:
        """The settings of invoices, in development with an example of a seller where there is none."""
        if self.environment == "development" and self.invoices.seller is None:
            return self.invoices.model_copy(update={"seller": _EXAMPLE_SELLER})
        return self.invoices
