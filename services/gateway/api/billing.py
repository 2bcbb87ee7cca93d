"""The public operations that the billing service answers."""

from services.gateway.api.documents import billing as documents
from services.gateway.api.forwarding import add_forwarded
from services.gateway.api.operations import CHANGES_PER_MINUTE, Body, Operation, Repeat, Surface, Who
from services.gateway.clients import ServiceClient

__all__ = ["OPERATIONS", "add_billing"]

_BASE = "/api/billing"
_BODY_FAULTS = (413, 415, 422)

_MEMBERS = (
    Operation(
        "GET",
        f"{_BASE}/balance",
        "billing-list-balances",
        "The caller's balance in each of their mandates.",
        answer=list[documents.Balance],
    ),
    Operation(
        "GET",
        f"{_BASE}/balance/{{mandateId}}",
        "billing-get-balance",
        "The caller's balance in a mandate.",
        who=Who.MEMBER,
        answer=documents.Balance,
        refusals=(404, 422),
    ),
    Operation(
        "GET",
        f"{_BASE}/transactions",
        "billing-list-transactions",
        "The transactions in the caller's scope, newest first.",
        limit=30,
        query=documents.TransactionsQuery,
        answer=list[documents.Transaction],
        refusals=(422,),
        context=True,
    ),
    Operation(
        "GET",
        f"{_BASE}/providers",
        "billing-list-providers",
        "The AI providers that the caller, or for a program the named member, may use.",
        who=Who.PERSON_OR_PROGRAM,
        scope="usage:check",
        query=documents.ProvidersQuery,
        answer=list[str],
        refusals=(404, 422),
        context=True,
    ),
    Operation(
        "GET",
        f"{_BASE}/markup",
        "billing-get-markup",
        "The markup in force for a mandate.",
        who=Who.MEMBER_OR_PROGRAM,
        scope="usage:check",
        query=documents.MarkupQuery,
        answer=documents.Markup,
        refusals=(404, 422),
    ),
    Operation(
        "POST",
        f"{_BASE}/check",
        "billing-check",
        "Whether a member may spend an amount now.",
        who=Who.PROGRAM,
        scope="usage:check",
        limit=None,
        body=Body(documents.Check),
        answer=documents.CheckAnswer,
        refusals=(404, *_BODY_FAULTS),
        repeat=Repeat.READ,
    ),
)

_MANDATE_ADMINS = (
    Operation(
        "GET",
        f"{_BASE}/admin/settings/{{mandateId}}",
        "billing-get-settings",
        "A mandate's settings.",
        who=Who.MANDATE_ADMIN,
        limit=30,
        answer=documents.Settings,
        refusals=(404, 422),
    ),
    Operation(
        "POST",
        f"{_BASE}/admin/settings/{{mandateId}}",
        "billing-change-settings",
        "Change a mandate's settings.",
        who=Who.MANDATE_ADMIN,
        limit=10,
        body=Body(documents.SettingsChange, required=False),
        answer=documents.Settings,
        refusals=(404, 409, *_BODY_FAULTS),
        repeat=Repeat.SAME,
    ),
    Operation(
        "GET",
        f"{_BASE}/admin/accounts/{{mandateId}}",
        "billing-list-accounts",
        "A mandate's accounts, the pool first.",
        who=Who.MANDATE_ADMIN,
        limit=30,
        answer=list[documents.Account],
        refusals=(404, 422),
    ),
)

_SYSTEM_ADMINS = (
    Operation(
        "POST",
        f"{_BASE}/admin/credit/{{mandateId}}",
        "billing-credit",
        "Give credit, or take it with a negative amount.",
        who=Who.SYSTEM_ADMIN,
        limit=10,
        body=Body(documents.Credit),
        answer=documents.Transaction,
        refusals=(400, 404, *_BODY_FAULTS),
        repeat=Repeat.KEY,
    ),
    Operation(
        "PUT",
        f"{_BASE}/admin/accounts/{{accountId}}",
        "billing-change-account",
        "Enable or disable an account.",
        who=Who.SYSTEM_ADMIN,
        limit=CHANGES_PER_MINUTE,
        body=Body(documents.AccountChange),
        answer=documents.Account,
        refusals=(404, *_BODY_FAULTS),
    ),
    Operation(
        "GET",
        f"{_BASE}/admin/prices",
        "billing-list-prices",
        "The price book: every version, which one of each model is in force, and what of it cannot be used.",
        who=Who.SYSTEM_ADMIN,
        query=documents.PricesQuery,
        answer=documents.PriceBook,
        refusals=(400, 422),
    ),
    Operation(
        "POST",
        f"{_BASE}/admin/prices",
        "billing-import-prices",
        "Import a price file, which is the body; with preview only say what would change.",
        who=Who.SYSTEM_ADMIN,
        limit=CHANGES_PER_MINUTE,
        query=documents.PriceImport,
        body=Body(documents.PriceFile),
        answer=documents.PricePreview,
        refusals=(400, *_BODY_FAULTS),
        repeat=Repeat.SAME,
        long=True,
    ),
    Operation(
        "GET",
        f"{_BASE}/admin/rates",
        "billing-list-rates",
        "The exchange rates: which one of each currency is in force, by whom it was set, and what cannot be used.",
        who=Who.SYSTEM_ADMIN,
        query=documents.RatesQuery,
        answer=documents.RateBook,
        refusals=(400, 422),
    ),
    Operation(
        "POST",
        f"{_BASE}/admin/rates",
        "billing-set-rate",
        "Set an exchange rate from a time on.",
        who=Who.SYSTEM_ADMIN,
        limit=CHANGES_PER_MINUTE,
        body=Body(documents.RateChange),
        answer=documents.Rate,
        refusals=(409, *_BODY_FAULTS),
        repeat=Repeat.SAME,
    ),
    Operation(
        "GET",
        f"{_BASE}/admin/unpriced",
        "billing-list-unpriced",
        "Usage that no price or rate covers yet.",
        who=Who.SYSTEM_ADMIN,
        query=documents.UnpricedQuery,
        answer=documents.UnpricedPage,
        refusals=(400, 422),
    ),
    Operation(
        "GET",
        f"{_BASE}/admin/unknown",
        "billing-list-unknown",
        "Mandates and members with usage that the directory does not know.",
        who=Who.SYSTEM_ADMIN,
        answer=documents.Unknown,
        refusals=(422,),
    ),
    Operation(
        "POST",
        f"{_BASE}/admin/model/{{mandateId}}",
        "billing-change-model",
        "Change a mandate's billing model and move its money.",
        who=Who.SYSTEM_ADMIN,
        limit=CHANGES_PER_MINUTE,
        body=Body(documents.ModelChange),
        answer=documents.ModelChanged,
        refusals=(404, 409, *_BODY_FAULTS),
        repeat=Repeat.KEY,
        long=True,
    ),
    Operation(
        "PUT",
        f"{_BASE}/admin/terms/{{mandateId}}",
        "billing-set-terms",
        "Replace a mandate's markup and credit limit.",
        who=Who.SYSTEM_ADMIN,
        limit=CHANGES_PER_MINUTE,
        body=Body(documents.Terms),
        answer=documents.Terms,
        refusals=(404, 409, *_BODY_FAULTS),
    ),
)

OPERATIONS = (*_MEMBERS, *_MANDATE_ADMINS, *_SYSTEM_ADMINS)


def add_billing(surface: Surface, billing: ServiceClient) -> None:
    """Serves them."""
    add_forwarded(surface, billing, OPERATIONS)
