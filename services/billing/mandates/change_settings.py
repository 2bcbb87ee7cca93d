"""Changing a mandate's settings: partial, audited, by those who may."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import available_timezones

from iso3166 import countries_by_alpha2
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.errors import AmountAboveCeiling, InvalidField
from services.billing.ledger.calendars import HOST_ZONES, zone_known
from services.billing.ledger.low_balances import note_low_balances_of_mandate
from services.billing.mandates.audit_log import record_change
from services.billing.mandates.errors import BillingModelFixed
from services.billing.mandates.open_mandate import open_mandate
from services.billing.mandates.queries import read_settings
from services.billing.mandates.repository import calendar_of, lock_settings, past_zones_json, write_settings
from services.billing.money import from_micro, to_micro
from services.chassis.caller import Caller, Forbidden
from services.chassis.clock import Clock
from services.chassis.database import Database

__all__ = ["change_settings", "show_settings"]

# Those that charges are priced by. A charge that has read them begins again when one of them changes.
_PRICING = frozenset({"billingModel", "markupPercent", "timeZone", "lateEvents", "lateEventDays"})
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


async def show_settings(database: Database, mandate_id: str) -> dict[str, Any]:
    """The settings of a mandate."""
    async with database.reading() as connection:
        mandate_no = await open_mandate(connection, mandate_id)
        return _settings_json(await read_settings(connection, mandate_no))


async def change_settings(
    database: Database,
    mandate_id: str,
    given: Mapping[str, Any],
    *,
    caller: Caller,
    amount_max: Decimal,
    clock: Clock,
) -> dict[str, Any]:
    """Sets what is given and differs, and answers the settings after.

    The whole object may be sent back: a value that is sent unchanged is no change, whatever the caller's role and
    today's ceiling of amounts.
    """
    async with database.transaction() as connection:
        mandate_no = await open_mandate(connection, mandate_id)
        now = clock()
        row = await lock_settings(connection, mandate_no)
        before = _settings_json(row)
        changed = {name: value for name, value in given.items() if value is not None and value != before[name]}
        _require_allowed(changed, before, caller=caller, amount_max=amount_max)
        if changed:
            await _write(connection, row, changed, now)
            await record_change(
                connection,
                mandate_no=mandate_no,
                actor=caller.user_id,
                action="settings",
                before={name: before[name] for name in changed},
                after=changed,
                now=now,
            )
        return _settings_json(await read_settings(connection, mandate_no))


def _require_allowed(
    changed: Mapping[str, Any], before: Mapping[str, Any], *, caller: Caller, amount_max: Decimal
) -> None:
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
    # The same holds for a country that was taken before it was looked at.
    if "billingAddress" in changed and changed["billingAddress"]["country"] not in countries_by_alpha2:
        raise InvalidField(
            "billingAddress.country",
            en="a country of ISO 3166-1 is expected, such as CH",
            de="ein Land nach ISO 3166-1 wird erwartet, zum Beispiel CH",
        )


async def _write(connection: AsyncConnection, row: RowMapping, changed: Mapping[str, Any], now: datetime) -> None:
    values = {_COLUMNS[name][0]: _stored(name, value) for name, value in changed.items()}
    if "timeZone" in changed:
        calendar = calendar_of(row["no"], row["time_zone"], row["past_time_zones"])
        values["past_time_zones"] = past_zones_json(calendar.changed(changed["timeZone"], now))
    if "autoRechargeEnabled" in changed:
        values["recharge_failures"] = 0
    await write_settings(connection, row["no"], values, priced_anew=not _PRICING.isdisjoint(changed))
    if "warningThresholdPercent" in changed:
        await note_low_balances_of_mandate(connection, row["no"], now=now)


def _stored(name: str, value: Any) -> Any:
    return to_micro(value) if name in _AMOUNTS else value


def _settings_json(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Settings as every answer shows them; amounts in CHF."""
    settings = {name: row[column] for name, (column, _) in _COLUMNS.items()}
    return {
        "id": str(row["no"]),
        "mandateId": row["id"],
        **settings,
        **{name: from_micro(settings[name]) for name in _AMOUNTS},
        "timeZoneKnown": zone_known(row["time_zone"]),
    }
