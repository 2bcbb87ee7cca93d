"""What Stripe's objects have and those of the fake do not, with the reason: states, and members that are never there.

A member that a new version of Stripe has stands in neither list: it is given, or comes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


def _each(reason: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, reason)


_ACCOUNTS = "there are no accounts in the place of customers, and no connected ones"
_CURRENCY = "nothing is shown in another currency than it is charged in"
_NEWER = "newer than the OpenAPI description, and the SDK does not say when it is there"
_ON_REQUEST = "Stripe gives it only where it is expanded, and nobody asks for it"
_NOT_TAKEN = "the parameter it repeats is refused"
_OUR_TAX = "taxes are the platform's own"

STATES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "dispute": {
            **_each("no decision is appealed", "appeal_needs_response", "appeal_under_review"),
            "prevented": "nobody is offered their money back before a dispute",
        },
        "mandate": {"pending": "TWINT says at once whether it gives one"},
        "payment_intent": {"requires_capture": "money is taken at once, never reserved first"},
        "setup_intent": {"processing": "whether a method is saved is always known at once"},
    }
)

MEMBERS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "balance": {
            **_each(_ACCOUNTS, "connect_reserved"),
            **_each("no money leaves by cards or at once", "instant_available", "issuing"),
            "refund_and_dispute_prefunding": "nothing is paid in for refunds before",
        },
        "billing_portal.session": _each(_NOT_TAKEN, "after_expiration"),
        "charge": {
            **_each(_ACCOUNTS, "transfer"),
            **_each(_CURRENCY, "presentment_details"),
            **_each(_NEWER, "authorization_code", "level3", "source"),
            **_each(_NOT_TAKEN, "radar_options"),
        },
        "checkout.session": {
            **_each(_ACCOUNTS, "customer_account"),
            **_each(_CURRENCY, "presentment_details"),
            **_each(
                _NOT_TAKEN,
                "branding_settings",
                "excluded_payment_method_types",
                "managed_payments",
                "name_collection",
                "optional_items",
                "redirect_on_completion",
                "return_url",
                "tax_id_collection",
                "wallet_options",
            ),
        },
        "customer": {
            **_each(_ACCOUNTS, "customer_account"),
            **_each(
                _ON_REQUEST, "cash_balance", "invoice_credit_balance", "sources", "subscriptions", "tax", "tax_ids"
            ),
        },
        "dispute": _each(_NOT_TAKEN, "intended_submission_method"),
        "event": _each(_ACCOUNTS, "account", "context"),
        "invoice": {
            **_each(_NEWER, "status_details"),
            "threshold_reason": "nothing is invoiced because it has become a certain sum",
        },
        "invoiceitem": _each(_NEWER, "frozen_fields", "invoicing_rules"),
        "item": {**_each(_ON_REQUEST, "discounts"), **_each(_OUR_TAX, "taxes")},
        "mandate": {**_each(_ACCOUNTS, "on_behalf_of"), "single_use": "one for a single payment is not asked for"},
        "payment_intent": {
            **_each(_ACCOUNTS, "customer_account"),
            **_each(_CURRENCY, "presentment_details"),
            **_each(_NOT_TAKEN, "excluded_payment_method_types", "hooks", "managed_payments", "payment_details"),
            **_each(_NEWER, "payment_record"),
        },
        "payment_method": {**_each(_ACCOUNTS, "customer_account"), **_each(_NOT_TAKEN, "radar_options")},
        "plan": _each(_ON_REQUEST, "tiers"),
        "price": _each(_ON_REQUEST, "currency_options", "tiers"),
        "product": _each(_NEWER, "tax_details"),
        "refund": {
            **_each(_ACCOUNTS, "customer_account"),
            **_each(_CURRENCY, "presentment_details"),
            **_each("only refunds that go by a bank transfer have it", "instructions_email", "next_action"),
            **_each("only refunds of what was no card payment have it", "description"),
            **_each(_NEWER, "customer", "payment_method"),
            "failure_balance_transaction": "no movement of Stripe's balance is kept for refunds",
            "pending_reason": "why a refund waits is not played",
        },
        "setup_intent": {
            **_each(_ACCOUNTS, "customer_account"),
            **_each(_NOT_TAKEN, "attach_to_self", "excluded_payment_method_types", "managed_payments"),
        },
        "subscription": _each(_CURRENCY, "presentment_details"),
        "subscription_item": {"billed_until": "never null, and not said when it is there"},
    }
)
