"""What checks and holds refuse."""

from collections.abc import Mapping
from typing import Any, ClassVar

from services.billing.checks.domain import Reason
from services.billing.checks.limits import Limit
from services.billing.money import from_micro
from services.chassis.problems import Problem
from services.chassis.validation import Texts, both

__all__ = [
    "CapturedAlready",
    "CapturedOtherwise",
    "HoldExpired",
    "HoldRefused",
    "HoldUnknown",
    "HoldVoided",
    "PriceUnknown",
    "UsageCancelled",
    "UsageConflict",
]


class PriceUnknown(Problem):
    """An estimate that cannot be priced; nothing is guessed."""

    status = 422
    code = "PRICE_UNKNOWN"
    title = "Price unknown"
    texts = both("This cannot be priced: {why}.", "Das lässt sich nicht berechnen: {why}.")

    # The texts by `Parked.reason`; the English detail names what is missing.
    REASONS: ClassVar = {
        "NO_PRICE": "für dieses Modell fehlt ein Preis",
        "NO_RATE": "für diese Währung fehlt ein Kurs",
    }

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(why={"en": detail, "de": self.REASONS[reason]})


class HoldRefused(Problem):
    """Nothing is reserved, for the reason that a check would give, which is the code."""

    status = 402
    code = "INSUFFICIENT_BALANCE"
    title = "Hold refused"
    texts = both("Nothing is reserved: {why}.", "Nichts wird reserviert: {why}.")

    def __init__(self, reason: Reason, figures: Mapping[str, Any], *, limit: Limit | None = None) -> None:
        super().__init__(code=reason, extra=figures, why=_REASONS[reason] if limit is None else _why(limit))


_REASONS: Mapping[Reason, Texts] = {
    "NOT_A_MEMBER": {
        "en": "the user is not an enabled member of the mandate",
        "de": "die Person ist kein aktives Mitglied des Mandanten",
    },
    "ACCOUNT_DISABLED": {"en": "the account is disabled", "de": "das Konto ist gesperrt"},
    "PROVIDER_NOT_ALLOWED": {
        "en": "the member may not use this provider",
        "de": "das Mitglied darf diesen Anbieter nicht verwenden",
    },
    "NO_ACTIVE_SUBSCRIPTION": {
        "en": "the mandate has no active subscription",
        "de": "der Mandant hat kein aktives Abonnement",
    },
    "SUB_LIMIT_EXCEEDED": {"en": "a limit would be exceeded", "de": "ein Limit würde überschritten"},
    "INSUFFICIENT_BALANCE": {
        "en": "the balance less what is held does not cover it",
        "de": "das Guthaben abzüglich der Reservierungen reicht nicht aus",
    },
    "CREDIT_LIMIT_EXCEEDED": {
        "en": "the credit limit would be exceeded",
        "de": "das Kreditlimit würde überschritten",
    },
}


_GERMAN = {
    "member": "das Mitglied",
    "feature": "die Instanz",
    "provider": "den Anbieter",
    "model": "das Modell",
    "day": "Tag",
    "month": "Monat",
}


def _why(limit: Limit) -> Texts:
    """Which limit would be exceeded."""
    amount, kind, period = format(from_micro(limit.amount), "f"), _GERMAN[limit.kind], _GERMAN[limit.period]
    return {
        "en": f"the limit of {amount} CHF a {limit.period} for the {limit.kind} {limit.key} would be exceeded",
        "de": f"das Limit von {amount} CHF pro {period} für {kind} {limit.key} würde überschritten",
    }


class HoldUnknown(Problem):
    """No such hold, or one of another mandate than the usage that is to settle it."""

    status = 404
    code = "HOLD_UNKNOWN"
    title = "Unknown hold"
    texts = both("There is no such hold.", "Diese Reservierung gibt es nicht.")


class HoldExpired(Problem):
    """The time of the hold is over and its amount given back."""

    status = 409
    code = "HOLD_EXPIRED"
    title = "Hold expired"
    texts = both(
        "The hold has expired. Usage can still be published as an event; it is then charged without a hold.",
        "Die Reservierung ist abgelaufen. Die Nutzung kann weiterhin als Ereignis gemeldet werden und wird dann"
        " ohne Reservierung belastet.",
    )


class HoldVoided(Problem):
    """The hold was voided and its amount given back."""

    status = 409
    code = "HOLD_VOIDED"
    title = "Hold voided"
    texts = both(
        "The hold was voided. Usage can still be published as an event; it is then charged without a hold.",
        "Die Reservierung wurde aufgehoben. Die Nutzung kann weiterhin als Ereignis gemeldet werden und wird dann"
        " ohne Reservierung belastet.",
    )


class CapturedAlready(Problem):
    """The hold was settled by usage, so there is nothing to void."""

    status = 409
    code = "HOLD_CAPTURED"
    title = "Hold captured"
    texts = both("The hold was settled by usage already.", "Die Reservierung ist schon durch Nutzung abgerechnet.")


class CapturedOtherwise(CapturedAlready):
    """The hold was settled by other usage than this."""

    texts = both(
        "The hold was settled by other usage already.", "Die Reservierung ist schon durch andere Nutzung abgerechnet."
    )


class UsageConflict(Problem):
    """The event was recorded with other data; the first stands."""

    status = 409
    code = "CONFLICT"
    title = "Event recorded otherwise"
    texts = both(
        "An event with this id was recorded with other data.",
        "Ein Ereignis mit dieser Id wurde mit anderen Daten erfasst.",
    )


class UsageCancelled(UsageConflict):
    """The event was cancelled while it waited for a price, so it is never charged and settles no hold."""

    texts = both(
        "The event was cancelled before it had a price. It is never charged.",
        "Das Ereignis wurde storniert, bevor es einen Preis hatte. Es wird nie belastet.",
    )
