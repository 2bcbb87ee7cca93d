"""Refusals about mandates."""

from typing import ClassVar

from services.chassis.problems import Problem

__all__ = ["AddressMissing", "BillingModelFixed", "MandateUnknown", "ModelUnchanged", "NoMembers"]


class MandateUnknown(Problem):
    """No such mandate; answered only to those who may know that."""

    status = 404
    code = "MANDATE_UNKNOWN"
    title = "Unknown mandate"
    texts: ClassVar = {"en": "There is no such mandate.", "de": "Diesen Mandanten gibt es nicht."}


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
