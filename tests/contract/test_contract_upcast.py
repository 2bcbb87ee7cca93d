"""Two versions of a contract live at once: readers get the newest, whichever was published."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest

from rappen_contracts import EVENTS, ContractError, decode, decode_batch_text, decode_structured, encode
from rappen_contracts.registry import EventVersion
from rappen_contracts.types import Contract, Identifier, NonNegativeMoney
from rappen_contracts.usage.v1 import UsageRecorded

NOW = datetime(2027, 1, 1, tzinfo=UTC)
ID = UUID("0197c1d2-aaaa-7abc-8def-0123456789ab")
AT = datetime(2026, 5, 4, 9, 12, 33, tzinfo=UTC)


class UsageRecordedV2(Contract):
    """A throw-away second version: tenant and member renamed, cost required."""

    tenant_id: Identifier
    member_id: Identifier
    cost: NonNegativeMoney


class UsageRecordedV3(Contract):
    """A throw-away third version: the member is gone."""

    tenant_id: Identifier
    cost: NonNegativeMoney


def _to_v2(data: Contract) -> Contract:
    usage = cast(UsageRecorded, data)
    return UsageRecordedV2.model_validate(
        {"tenant_id": usage.mandate_id, "member_id": usage.user_id, "cost": usage.cost}
    )


def _to_v3(data: Contract) -> Contract:
    usage = cast(UsageRecordedV2, data)
    return UsageRecordedV3(tenant_id=usage.tenant_id, cost=usage.cost)


V1 = replace(EVENTS["ch.rappen.usage.recorded.v1"], upcast=_to_v2)
V2 = EventVersion("usage.recorded", 2, UsageRecordedV2)
V3 = EventVersion("usage.recorded", 3, UsageRecordedV3)
TWO = {version.type: version for version in (V1, V2)}
THREE = {version.type: version for version in (V1, replace(V2, upcast=_to_v3), V3)}

COST = {"amount": "0.50", "currency": "USD"}
OLD = {"mandate_id": "m-1", "user_id": "u-1", "provider": "openai", "model": "gpt-5", "cost": COST}
NEW = {"tenant_id": "m-1", "member_id": "u-1", "cost": {"amount": "5E-1", "currency": "USD"}}


def _headers(version: EventVersion) -> list[tuple[str, bytes]]:
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", str(ID).encode()),
        ("ce_source", b"/test"),
        ("ce_type", version.type.encode()),
        ("ce_time", b"2026-05-04T09:12:33Z"),
    ]


def _structured(version: EventVersion, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": str(ID),
        "source": "/test",
        "type": version.type,
        "time": "2026-05-04T09:12:33Z",
        "data": data,
    }


def test_both_versions_are_read_as_the_newest() -> None:
    old = decode(_headers(V1), json.dumps(OLD).encode(), now=NOW, events=TWO)
    new = decode(_headers(V2), json.dumps(NEW).encode(), now=NOW, events=TWO)
    assert isinstance(old.data, UsageRecordedV2)
    assert old == new
    assert old.type == V2.type


def test_the_digest_is_of_the_upcast_data_so_a_repeat_in_the_other_version_is_a_repeat() -> None:
    old = decode(_headers(V1), json.dumps(OLD | {"description": "gone in v2"}).encode(), now=NOW, events=TWO)
    new = decode(_headers(V2), json.dumps(NEW).encode(), now=NOW, events=TWO)
    other = decode(_headers(V2), json.dumps(NEW | {"member_id": "u-2"}).encode(), now=NOW, events=TWO)
    assert old.digest == new.digest
    assert old.digest != other.digest
    assert old.digest != decode(_headers(V1), json.dumps(OLD).encode(), now=NOW).digest


def test_upcasts_chain_to_the_newest_of_three_versions() -> None:
    found = {
        decode(_headers(version), json.dumps(data).encode(), now=NOW, events=THREE).data.model_dump_json(
            exclude={"cost"}
        )
        for version, data in ((V1, OLD), (V2, NEW), (V3, {"tenant_id": "m-1", "cost": COST}))
    }
    assert found == {'{"tenant_id":"m-1"}'}


def test_structured_events_and_batches_are_upcast_too() -> None:
    events = decode_batch_text(json.dumps([_structured(V1, OLD), _structured(V2, NEW)]).encode(), now=NOW, events=TWO)
    assert events[0] == events[1] == decode_structured(_structured(V1, OLD), now=NOW, events=TWO)


def test_old_data_is_judged_by_its_own_version_first() -> None:
    with pytest.raises(ContractError) as refused:
        decode(_headers(V1), json.dumps({**OLD, "user_id": 1}).encode(), now=NOW, events=TWO)
    assert (refused.value.code, refused.value.detail.split(":")[0]) == ("WRONG_TYPE", "user_id")


def test_old_data_that_the_newest_version_cannot_hold_is_refused_with_a_code() -> None:
    free = {name: value for name, value in OLD.items() if name != "cost"} | {"tokens": {"input": 1}}
    with pytest.raises(ContractError) as refused:
        decode(_headers(V1), json.dumps(free).encode(), now=NOW, events=TWO)
    assert refused.value.code == "WRONG_TYPE"


def test_an_upcast_that_fails_is_the_readers_fault_and_still_a_contract_error() -> None:
    def broken(data: Contract) -> Contract:
        raise KeyError(data)

    events = {V1.type: replace(V1, upcast=broken), V2.type: V2}
    with pytest.raises(ContractError, match=r"^UNDECODABLE: KeyError$"):
        decode(_headers(V1), json.dumps(OLD).encode(), now=NOW, events=events)
    with pytest.raises(ContractError, match=r"^UNDECODABLE: KeyError$"):
        decode_structured(_structured(V1, OLD), now=NOW, events=events)


def test_a_publisher_may_still_write_the_old_version() -> None:
    for version, data in ((V1, UsageRecorded.model_validate(OLD)), (V2, UsageRecordedV2.model_validate(NEW))):
        record = encode(data, type=version.type, id=ID, source="/test", time=AT, key="m-1", events=TWO)
        assert dict(record.headers)["ce_type"] == version.type.encode()
        assert isinstance(decode(record.headers, record.value, now=NOW, events=TWO).data, UsageRecordedV2)
    with pytest.raises(ContractError):
        encode(UsageRecorded.model_validate(OLD), type=V2.type, id=ID, source="/t", time=AT, key="m", events=TWO)


def test_the_second_version_is_unknown_to_a_reader_of_the_first() -> None:
    with pytest.raises(ContractError) as refused:
        decode(_headers(V2), json.dumps(NEW).encode(), now=NOW)
    assert refused.value.code == "UNKNOWN_VERSION"
