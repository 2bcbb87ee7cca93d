"""Everything billing refuses over HTTP."""

from decimal import Decimal
from typing import ClassVar

from services.chassis.problems import InvalidBody, Problem
from services.chassis.validation import FieldFault

__all__ = [
    "AmountAboveCeiling",
    "BalanceOutOfRange",
    "BillingModelFixed",
    "InvalidField",
    "MalformedParameter",
    "MandateUnknown",
    "NoAccount",
    "NoMembers",
    "NotAMember",
    "PriceFileRefused",
    "PriceUnknown",
    "UserRequired",
    "ZeroCredit",
]


# What does not exist.


class MandateUnknown(Problem):
    """No such mandate; told only to those who may know."""

    status = 404
    code = "MANDATE_UNKNOWN"
    title = "Unknown mandate"
    texts: ClassVar = {"en": "There is no such mandate.", "de": "Diesen Mandanten gibt es nicht."}


class NoAccount(Problem):
    """No such account."""

    status = 404
    code = "ACCOUNT_UNKNOWN"
    title = "Unknown account"
    texts: ClassVar = {"en": "There is no such account.", "de": "Dieses Konto gibt es nicht."}


# What the request says.


class MalformedParameter(Problem):
    """A query parameter or path segment is malformed."""

    status = 400
    code = "MALFORMED_PARAMETER"
    title = "Malformed parameter"
    texts: ClassVar = {"en": "{name} is malformed: {why}.", "de": "{name} ist fehlerhaft: {why}."}

    def __init__(self, name: str, *, en: str, de: str) -> None:
        super().__init__(name=name, why={"en": en, "de": de})


class ZeroCredit(Problem):
    """A credit of nothing."""

    status = 400
    code = "ZERO_CREDIT"
    title = "Zero credit"
    texts: ClassVar = {"en": "The amount must not be zero.", "de": "Der Betrag darf nicht null sein."}


class InvalidField(InvalidBody):
    """One field of the body is wrong in a way that its type does not tell."""

    def __init__(self, field: str, *, en: str, de: str, code: str = "VALIDATION") -> None:
        super().__init__([FieldFault(field, {"en": en, "de": de})], code=code)


class AmountAboveCeiling(InvalidField):
    """More money than one request may name on this platform."""

    def __init__(self, field: str, ceiling: Decimal) -> None:
        most = format(ceiling, "f")
        super().__init__(
            field,
            en=f"at most {most} CHF, which is the ceiling of this platform",
            de=f"höchstens {most} CHF, die Obergrenze dieser Plattform",
            code="AMOUNT_ABOVE_CEILING",
        )


class UserRequired(InvalidField):
    """Money of a PREPAY_USER mandate is on its members' budgets."""

    def __init__(self) -> None:
        super().__init__(
            "userId",
            en="is required, the money of this mandate is on its members' budgets",
            de="ist nötig, das Geld dieses Mandanten liegt auf den Budgets der Mitglieder",
        )


class NotAMember(InvalidField):
    """The user named is no enabled member of the mandate."""

    def __init__(self) -> None:
        super().__init__(
            "userId", en="is no member of this mandate", de="ist kein Mitglied dieses Mandanten", code="NOT_A_MEMBER"
        )


class PriceUnknown(Problem):
    """An estimate that cannot be priced; nothing is guessed."""

    status = 422
    code = "PRICE_UNKNOWN"
    title = "Price unknown"
    texts: ClassVar = {"en": "This cannot be priced: {why}.", "de": "Das lässt sich nicht berechnen: {why}."}

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(why={"en": detail, "de": _GERMAN_REASONS[reason]})


# What is missing (`Parked.reason`); the English detail says which.
_GERMAN_REASONS = {
    "NO_PRICE": "für dieses Modell fehlt ein Preis",
    "NO_RATE": "für diese Währung fehlt ein Kurs",
}


class PriceFileRefused(Problem):
    """A price file that cannot be read as a whole."""

    status = 422
    code = "PRICE_FILE"
    title = "Unreadable price file"
    # Why is said in English alone, as in the lists of what was not read; files are the operator's.
    texts: ClassVar = {
        "en": "The price file cannot be read: {why}.",
        "de": "Die Preisdatei ist als Ganzes nicht lesbar; es wurde nichts übernommen.",
    }


# What the state does not allow.


class BalanceOutOfRange(Problem):
    """A balance would be further from zero than the ledger keeps."""

    status = 409
    code = "BALANCE_OUT_OF_RANGE"
    title = "Balance out of range"
    texts: ClassVar = {
        "en": "A balance would leave the range of the ledger.",
        "de": "Ein Kontostand läge ausserhalb dessen, was das Hauptbuch führt.",
    }


class BillingModelFixed(Problem):
    """The billing model moves money, so it has an operation of its own."""

    status = 409
    code = "BILLING_MODEL_FIXED"
    title = "Billing model is switched elsewhere"
    texts: ClassVar = {
        "en": "The billing model is changed by POST /api/billing/admin/model/{mandate}.",
        "de": "Das Abrechnungsmodell wird mit POST /api/billing/admin/model/{mandate} gewechselt.",
    }


class NoMembers(Problem):
    """Nobody to share the pool with."""

    status = 409
    code = "NO_MEMBERS"
    title = "No members"
    texts: ClassVar = {
        "en": "The pool cannot be shared out, because the mandate has no members.",
        "de": "Der Topf kann nicht verteilt werden, weil der Mandant keine Mitglieder hat.",
    }


class AddressMissing(Problem):
    """Postpaid usage is invoiced, so there must be an address."""

    status = 409
    code = "BILLING_ADDRESS_MISSING"
    title = "Billing address missing"
    texts: ClassVar = {
        "en": "CREDIT_POSTPAY needs a billing address.",
        "de": "CREDIT_POSTPAY braucht eine Rechnungsadresse.",
    }


class ModelUnchanged(Problem):
    """The mandate has this model already."""

    status = 409
    code = "BILLING_MODEL_UNCHANGED"
    title = "Nothing to switch"
    texts: ClassVar = {
        "en": "The mandate has this billing model already.",
        "de": "Der Mandant hat dieses Abrechnungsmodell schon.",
    }


class IdempotencyMismatch(Problem):
    """An Idempotency-Key that was used for another request."""

    status = 422
    code = "IDEMPOTENCY_MISMATCH"
    title = "Idempotency key reused"
    texts: ClassVar = {
        "en": "This Idempotency-Key was used with another request.",
        "de": "Dieser Idempotency-Key gehört zu einer anderen Anfrage.",
    }
