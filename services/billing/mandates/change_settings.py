"""Changing a mandate's settings: partial, audited, by those who may."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import available_timezones

import asyncpg
import orjson

from services.billing.errors import AmountAboveCeiling, InvalidField
from services.billing.mandates.audit_log import record_change
from services.billing.mandates.errors import BillingModelFixed
from services.billing.mandates.queries import read_settings
from services.billing.mandates.repository import calendar_of, past_zones_json
from services.billing.money import from_micro, to_micro
from services.billing.zones import HOST_ZONES, zone_known
from services.chassis.caller import Caller, Forbidden

__all__ = ["change_settings", "change_terms", "settings_json"]

# The name of each setting in the body, its column, and whether a mandate admin may change it.
_COLUMNS: dict[str, tuple[str, bool]] = {
    "billingModel": ("billing_model", False),
    "defaultUserCredit": ("default_user_credit", False),
    "warningThresholdPercent": ("warning_threshold_percent", True),
    "blockOnZeroBalance": ("block_on_zero_balance", False),
    "billingAddress": ("billing_address", True),
    "notifyEmails": ("notify_emails", True),
    "notifyOnWarning": ("notify_on_warning", True),
    "autoRechargeEnabled": ("auto_recharge_enabled", True),
    "rechargeAmountCHF": ("recharge_amount", True),
    "rechargeMaxPerMonth": ("recharge_max_per_month", True),
    "markupPercent": ("markup_percent", False),
    "timeZone": ("time_zone", False),
    "lateEvents": ("late_events", False),
    "lateEventDays": ("late_event_days", False),
}
_AMOUNTS = ("defaultUserCredit", "rechargeAmountCHF")


async def change_settings(
    connection: asyncpg.Connection,
    mandate_no: int,
    given: Mapping[str, Any],
    *,
    caller: Caller,
    amount_max: Decimal,
    now: datetime,
) -> dict[str, Any]:
    """Sets what is given and differs, in the caller's transaction, and answers the settings after.

    The whole object may be sent back: a value that is sent unchanged is no change, whoever sends it, and however it
    compares with today's ceiling of amounts.
    """
    row = await read_settings(connection, mandate_no, lock=True)
    before = settings_json(row)
    changed = {name: value for name, value in given.items() if value is not None and value != before[name]}
    for name, value in changed.items():
        if not _COLUMNS[name][1] and not caller.system_admin:
            raise Forbidden(code="SETTING_NOT_YOURS")
        if name == "billingModel":
            raise BillingModelFixed(mandate=before["mandateId"])
        if name in _AMOUNTS and value > amount_max:
            raise AmountAboveCeiling(name, amount_max)
    # Sent back unchanged, a zone that this machine no longer knows is no fault of the sender.
    if "timeZone" in changed and changed["timeZone"] not in available_timezones() - HOST_ZONES:
        raise InvalidField("timeZone", en="there is no such time zone", de="diese Zeitzone gibt es nicht")
    if changed:
        assignments = ", ".join(f"{_COLUMNS[name][0]} = ${place}" for place, name in enumerate(changed, start=2))
        await connection.execute(
            f"UPDATE mandates SET {assignments}, version = version + 1 WHERE no = $1",
            mandate_no,
            *(_stored(name, value) for name, value in changed.items()),
        )
        if "timeZone" in changed:
            calendar = calendar_of(mandate_no, row["time_zone"], row["past_time_zones"]).changed(
                changed["timeZone"], now
            )
            await connection.execute(
                "UPDATE mandates SET past_time_zones = $2 WHERE no = $1", mandate_no, past_zones_json(calendar)
            )
        await record_change(
            connection,
            mandate_no=mandate_no,
            actor=caller.user_id,
            action="settings",
            before={name: before[name] for name in changed},
            after=changed,
            now=now,
        )
    return settings_json(await read_settings(connection, mandate_no))


async def change_terms(
    connection: asyncpg.Connection,
    mandate_no: int,
    *,
    markup_percent: Decimal | None,
    credit_limit: int | None,
    pool_no: int,
    caller: Caller,
    now: datetime,
) -> None:
    """Replaces markup and credit limit; None takes the plan's or global markup, and no limit."""
    before = await connection.fetchrow(
        "SELECT m.markup_percent, a.credit_limit FROM mandates m JOIN accounts a ON a.mandate_no = m.no AND a.no = $2"
        " WHERE m.no = $1 FOR UPDATE",
        mandate_no,
        pool_no,
    )
    await connection.execute(
        "UPDATE mandates SET markup_percent = $2, version = version + 1 WHERE no = $1", mandate_no, markup_percent
    )
    await connection.execute(
        "UPDATE accounts SET credit_limit = $3 WHERE mandate_no = $1 AND no = $2", mandate_no, pool_no, credit_limit
    )
    await record_change(
        connection,
        mandate_no=mandate_no,
        actor=caller.user_id,
        action="terms",
        before={"markupPercent": before["markup_percent"], "creditLimit": before["credit_limit"]},
        after={"markupPercent": markup_percent, "creditLimit": credit_limit},
        now=now,
    )


def _stored(name: str, value: Any) -> Any:
    if name in _AMOUNTS:
        return to_micro(value)
    return orjson.dumps(value).decode() if name == "billingAddress" else value


def settings_json(row: asyncpg.Record) -> dict[str, Any]:
    """The one form of settings."""
    return {
        "id": str(row["no"]),
        "mandateId": row["id"],
        "billingModel": row["billing_model"],
        "defaultUserCredit": from_micro(row["default_user_credit"]),
        "warningThresholdPercent": row["warning_threshold_percent"],
        "blockOnZeroBalance": row["block_on_zero_balance"],
        "billingAddress": row["billing_address"],
        "notifyEmails": row["notify_emails"],
        "notifyOnWarning": row["notify_on_warning"],
        "autoRechargeEnabled": row["auto_recharge_enabled"],
        "rechargeAmountCHF": from_micro(row["recharge_amount"]),
        "rechargeMaxPerMonth": row["recharge_max_per_month"],
        "markupPercent": row["markup_percent"],
        "timeZone": row["time_zone"],
        "timeZoneKnown": zone_known(row["time_zone"]),
        "lateEvents": row["late_events"],
        "lateEventDays": row["late_event_days"],
    }
