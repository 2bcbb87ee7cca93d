"""Settings, terms and billing model of a mandate: /api/billing/admin/settings, /terms, /model."""

from typing import Annotated, Any

from fastapi import Depends, Request

from services.billing.http import Context, IdempotencyKey, long_time, require_mandate_admin, router
from services.billing.mandates.bodies import ModelChange, ModelChanged, Settings, SettingsChange, Terms, TermsChange
from services.billing.mandates.change_model import change_model
from services.billing.mandates.change_settings import change_settings, show_settings
from services.billing.mandates.set_terms import set_terms
from services.billing.mandates.switch_model import InvoicedSpans
from services.billing.parameters import MandateId
from services.chassis.caller import CurrentCaller, require_system_admin
from services.chassis.operations import CHANGES_PER_MINUTE, Access, Repeat, operation
from services.chassis.state import of_state

__all__ = ["api"]

Spans = Annotated[InvoicedSpans, of_state("postpay_spans")]

api = router()


@api.get(
    "/api/billing/admin/settings/{mandateId}",
    dependencies=[Depends(require_mandate_admin)],
    **operation(
        "billing-get-settings",
        "A mandate's settings.",
        access=Access.MANDATE_ADMIN,
        limit=30,
        answer=Settings,
        refuses=(404, 422),
    ),
)
async def get_settings(context: Context, mandate_id: MandateId) -> dict[str, Any]:
    return await show_settings(context.database, mandate_id)


@api.post(
    "/api/billing/admin/settings/{mandateId}",
    dependencies=[Depends(require_mandate_admin)],
    **operation(
        "billing-change-settings",
        "Change a mandate's settings.",
        access=Access.MANDATE_ADMIN,
        limit=10,
        repeat=Repeat.SAME,
        answer=Settings,
        refuses=(404, 409, 413, 415, 422),
    ),
)
async def post_settings(
    context: Context, caller: CurrentCaller, mandate_id: MandateId, body: SettingsChange | None = None
) -> dict[str, Any]:
    return await change_settings(
        context.database,
        mandate_id,
        {} if body is None else body.model_dump(by_alias=True),
        caller=caller,
        amount_max=context.settings.amount_max_chf,
        clock=context.clock,
    )


@api.put(
    "/api/billing/admin/terms/{mandateId}",
    dependencies=[Depends(require_system_admin)],
    **operation(
        "billing-set-terms",
        "Replace a mandate's markup and credit limit.",
        access=Access.SYSTEM_ADMIN,
        limit=CHANGES_PER_MINUTE,
        answer=Terms,
        refuses=(404, 409, 413, 415, 422),
    ),
)
async def put_terms(
    context: Context, caller: CurrentCaller, mandate_id: MandateId, body: TermsChange
) -> dict[str, Any]:
    return await set_terms(
        context.database,
        mandate_id,
        markup_percent=body.markup_percent,
        credit_limit=body.credit_limit,
        limit_max=context.settings.credit_limit_max_chf,
        caller=caller,
        clock=context.clock,
    )


@api.post(
    "/api/billing/admin/model/{mandateId}",
    dependencies=[Depends(require_system_admin)],
    **operation(
        "billing-change-model",
        "Change a mandate's billing model and move its money.",
        access=Access.SYSTEM_ADMIN,
        limit=CHANGES_PER_MINUTE,
        repeat=Repeat.KEY,
        long=True,
        answer=ModelChanged,
        refuses=(404, 409, 413, 415, 422),
    ),
)
async def post_model(
    context: Context,
    spans: Spans,
    *,
    caller: CurrentCaller,
    mandate_id: MandateId,
    body: ModelChange,
    request: Request,
    key: IdempotencyKey = None,
) -> dict[str, Any]:
    return await change_model(
        context.database,
        mandate_id,
        body.billing_model,
        key=key,
        body=body.model_dump_json(),
        spans=spans,
        caller=caller,
        allow_long_answer=long_time(request),
        clock=context.clock,
    )
