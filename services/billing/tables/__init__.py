"""The tables of the schema `billing`, as the migrations make them.

Amounts of type BigInteger are whole micro-CHF (a millionth of a franc); a Numeric is an exact decimal in the unit that
its name or comment gives (CHF, percent, CHF for one unit of a currency). Every table of the ledger has the mandate's
narrow key, so the ledger can be spread by mandate. Text ids are compared byte by byte (collation C).
"""

from services.billing.tables.accounts import accounts, grants, holds, unpublished_balances
from services.billing.tables.base import metadata
from services.billing.tables.credits import (
    budget_movements,
    budget_refunds,
    payment_credits,
    payment_refunds,
    promotion_redemptions,
    promotions,
    recharges,
    subscription_budgets,
)
from services.billing.tables.directory import (
    directory_mandates,
    directory_members,
    directory_users,
    provider_permissions,
)
from services.billing.tables.invoices import (
    invoice_documents,
    invoice_lines,
    invoice_payments,
    invoice_series,
    invoices,
    postpay_spans,
    vat_rates,
)
from services.billing.tables.ledger import (
    closed_days,
    dimensions,
    limit_costs,
    limits,
    rollup_sums,
    rollups,
    sealed_days,
    transactions,
    usage_descriptions,
    workflow_blocks,
)
from services.billing.tables.mandates import audit_log, kept_answers, mandate_subscriptions, mandates
from services.billing.tables.pricing import price_book, prices, rates
from services.billing.tables.usage import (
    cancellations,
    price_corrections,
    publisher_silences,
    rerated_mandates,
    rerating_parts,
    reratings,
    storage_periods,
    storage_reports,
    unposted_events,
)
from services.chassis.dead_letter_limit import stopped_consumers_table
from services.chassis.outbox import outbox_table
from services.chassis.quarantine import quarantine_table

__all__ = [
    "accounts",
    "audit_log",
    "budget_movements",
    "budget_refunds",
    "cancellations",
    "closed_days",
    "dimensions",
    "directory_mandates",
    "directory_members",
    "directory_users",
    "grants",
    "holds",
    "invoice_documents",
    "invoice_lines",
    "invoice_payments",
    "invoice_series",
    "invoices",
    "kept_answers",
    "limit_costs",
    "limits",
    "mandate_subscriptions",
    "mandates",
    "metadata",
    "outbox",
    "payment_credits",
    "payment_refunds",
    "postpay_spans",
    "price_book",
    "price_corrections",
    "prices",
    "promotion_redemptions",
    "promotions",
    "provider_permissions",
    "publisher_silences",
    "quarantine",
    "rates",
    "recharges",
    "rerated_mandates",
    "rerating_parts",
    "reratings",
    "rollup_sums",
    "rollups",
    "sealed_days",
    "stopped_consumers",
    "storage_periods",
    "storage_reports",
    "subscription_budgets",
    "transactions",
    "unposted_events",
    "unpublished_balances",
    "usage_descriptions",
    "vat_rates",
    "workflow_blocks",
]

outbox = outbox_table(metadata)
quarantine = quarantine_table(metadata)
stopped_consumers = stopped_consumers_table(metadata)
