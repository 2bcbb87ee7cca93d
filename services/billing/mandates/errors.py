"""Refusals about mandates."""

from services.chassis.caller import MandateUnknown
from services.chassis.problems import Problem
from services.chassis.validation import both

__all__ = ["AddressMissing", "BillingModelFixed", "MandateUnknown", "ModelUnchanged", "NoMembers"]


class BillingModelFixed(Problem):
    """The billing model moves money, so it has an operation of its own."""

    status = 409
    code = "BILLING_MODEL_FIXED"
    title = "Billing model is switched elsewhere"
    texts = both(
        "The billing model is changed by POST /api/billing/admin/model/{mandate}.",
        "Das Abrechnungsmodell wird mit POST /api/billing/admin/model/{mandate} gewechselt.",
    )


class NoMembers(Problem):
    """Nobody to share the pool with."""

    status = 409
    code = "NO_MEMBERS"
    title = "No members"
    texts = both(
        "The pool cannot be shared out, because the mandate has no members.",
        "Der Topf kann nicht verteilt werden, weil der Mandant keine Mitglieder hat.",
    )


class AddressMissing(Problem):
    """Postpaid usage is invoiced, so there must be an address."""

    status = 409
    code = "BILLING_ADDRESS_MISSING"
    title = "Billing address missing"
    texts = both("CREDIT_POSTPAY needs a billing address.", "CREDIT_POSTPAY braucht eine Rechnungsadresse.")


class ModelUnchanged(Problem):
    """The mandate has this model already."""

    status = 409
    code = "BILLING_MODEL_UNCHANGED"
    title = "Nothing to switch"
    texts = both("The mandate has this billing model already.", "Der Mandant hat dieses Abrechnungsmodell schon.")
