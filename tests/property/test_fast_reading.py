"""The fast form of reading usage takes nothing that the contract refuses, and reads what it takes as the contract does.

`make fuzz` runs it with many more examples.
"""

from datetime import UTC, datetime
from decimal import Decimal
from random import Random

from rappen_contracts import ContractError, decode
from rappen_contracts.types import since_epoch
from rappen_contracts.usage import fast
from rappen_contracts.usage.v1 import TOKEN_KINDS, UsageRecorded
from tests.support.examples import many
from tests.support.usage_shapes import USUAL_HEADERS, any_body, any_headers, changed_text, text_of, usual_body

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


def _read(named: list[tuple[str, bytes | None]], value: bytes) -> fast.FastUsage | None:
    """Reads in the fast form, and holds what it took against the published one."""
    found = fast.read(named, value, since_epoch(NOW))
    if found is None:
        return None
    try:
        event = decode(named, value, now=NOW)
    except ContractError as error:
        raise AssertionError(f"taken, but refused as {error.code}: {value!r} {named}") from None
    data = event.data
    assert isinstance(data, UsageRecorded)
    assert (event.id.bytes, since_epoch(event.time), event.digest) == (found.id, found.time, found.digest)
    apart = ("cost", "tokens", "quantities", "hold_id")
    fields = {name: value for name, value in dict(data).items() if name not in apart}
    assert {name: getattr(found.data, name) for name in fields} == fields
    # The order of maps too, because it is the order in which they are kept.
    assert [list(getattr(found.data, name) or ()) for name in ("conditions", "metadata")] == [
        list(data.conditions or ()),
        list(data.metadata or ()),
    ]
    assert found.data.hold_id == (None if data.hold_id is None else str(data.hold_id))
    assert _cost(found.data) == (None if data.cost is None else (data.cost.amount, data.cost.currency))
    assert list((found.data.quantities or {}).items()) == [
        (name, canonical(quantity)) for name, quantity in (data.quantities or {}).items()
    ]
    assert (found.data.tokens is None) == (data.tokens is None)
    if data.tokens is not None and found.data.tokens is not None:
        assert dict(zip(TOKEN_KINDS, found.counts, strict=True)).items() <= dict(data.tokens).items()
        assert found.data.tokens.provider_total == data.tokens.provider_total
        assert found.data.tokens.total == data.tokens.total
    assert found.names == tuple(getattr(data, name) for name in NAMES)
    return found


def canonical(number: Decimal) -> str:
    """A decimal as it is kept."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


NAMES = ("mandate_id", "user_id", "provider", "model", "feature_code", "feature_instance_id")


def _cost(data: fast.UsageData) -> tuple[Decimal, str] | None:
    return None if data.cost is None else (Decimal(data.cost.amount), data.cost.currency)


@many(20_000)
def test_what_is_taken_is_what_the_contract_takes(random: Random) -> None:
    _read(any_headers(random), changed_text(random, any_body(random)))


@many(2_000)
def test_usual_usage_is_taken_in_every_style(random: Random) -> None:
    body = usual_body(random)
    named, value = list(USUAL_HEADERS.items()), text_of(random, body)
    try:
        decode(named, value, now=NOW)
    except ContractError:
        assert _read(named, value) is None
        return
    found = _read(named, value)
    # Tokens of nothing may count as absent, which the models decide.
    assert found is not None or ("tokens" in body and not any(body["tokens"].values()))


def test_it_reads_the_present_version_of_the_model() -> None:
    assert fast.UsageData.__struct_fields__ == tuple(UsageRecorded.model_fields)
    assert fast.Tokens.__struct_fields__ == (*TOKEN_KINDS, "total", "provider_total")
