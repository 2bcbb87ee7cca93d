"""When a run of refused records is long enough to stop a consumer, and when it is one publisher's matter."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from services.chassis.dead_letter_limit import RefusedRun
from services.chassis.kafka import KafkaRecord
from services.chassis.quarantine import Refused
from services.chassis.settings import KafkaSettings

LENGTH, KEYS = 100, 5


def _run(**changes: float) -> RefusedRun:
    limits = {"dead_letter_run": LENGTH, "dead_letter_keys": KEYS, **changes}
    return RefusedRun(KafkaSettings.model_validate({"bootstrap_servers": "-", **limits}))


def _refused(count: int, keys: int = 10, code: str = "NOT_JSON") -> list[Refused]:
    return [Refused(_record(f"{number % keys}".encode()), code, "") for number in range(count)]


def _record(key: bytes | None) -> KafkaRecord:
    return KafkaRecord("usage.recorded", 0, 0, 0, key, b"{")


def test_a_run_of_refused_records_of_many_keys_reaches_the_limit_whatever_its_batches() -> None:
    run = _run()
    assert [run.add(10, _refused(10)) for _ in range(10)] == [False] * 9 + [True]
    assert str(run) == "100 of 100 records on end were refused, most of them as NOT_JSON"
    assert _run().add(LENGTH, _refused(LENGTH))
    assert not _run().add(LENGTH - 1, _refused(LENGTH - 1))


@pytest.mark.parametrize(("settled", "stops"), [(0, True), (5, True), (6, False), (100, False)])
def test_what_is_settled_meanwhile_counts_against_it(settled: int, stops: bool) -> None:
    run = _run()
    # 95 in a hundred are the limit, of which five more are settled at most.
    refused = 95
    assert not run.add(refused, _refused(refused))
    run.add(settled, [])
    assert run.add(5, _refused(5)) is stops


def test_a_run_begins_anew_when_the_share_falls_below_the_limit() -> None:
    run = _run()
    run.add(99, _refused(99))
    run.add(50, [])
    assert not run.add(99, _refused(99))
    assert run.add(1, _refused(1))


def test_few_keys_never_stop_the_others_however_many_records_they_have() -> None:
    run = _run()
    assert not any(run.add(LENGTH, _refused(LENGTH, keys=KEYS - 1)) for _ in range(100))
    # With one key more it is not the matter of a few any longer.
    assert run.add(LENGTH // KEYS, [Refused(_record(b"one more"), "NOT_JSON", "")] * (LENGTH // KEYS))


def test_records_without_a_key_count_as_one_key() -> None:
    run = _run()
    nameless = [Refused(_record(None), "NOT_JSON", "")] * LENGTH
    assert not any(run.add(LENGTH, nameless) for _ in range(100))


def test_a_flood_of_one_key_hides_no_bad_release() -> None:
    run = _run()
    flood = [Refused(_record(b"flood"), "NOT_JSON", "")] * LENGTH
    assert not run.add(LENGTH, flood)
    assert run.add(LENGTH, _refused(LENGTH))


def test_events_that_contradict_recorded_ones_stop_nobody_and_hide_no_bad_release() -> None:
    run = _run()
    contradicting = [replace(each, publishers_fault=True) for each in _refused(LENGTH, code="CONFLICT")]
    assert not any(run.add(LENGTH, contradicting) for _ in range(10))
    assert not run.add(2 * LENGTH - 1, [*contradicting, *_refused(LENGTH - 1)])
    assert run.add(1, _refused(1))
    assert str(run) == "100 of 100 records on end were refused, most of them as NOT_JSON"


def test_where_one_key_is_enough_one_key_stops() -> None:
    assert _run(dead_letter_keys=1).add(LENGTH, _refused(LENGTH, keys=1))


def test_the_most_frequent_code_is_told() -> None:
    run = _run()
    run.add(2, _refused(2, code="EMPTY"))
    run.add(98, _refused(98, code="UNKNOWN_TYPE"))
    assert str(run).endswith("as UNKNOWN_TYPE")


@pytest.mark.parametrize(
    "changes", [{"dead_letter_share": 0}, {"dead_letter_share": 1.1}, {"dead_letter_keys": LENGTH + 1}]
)
def test_a_limit_that_cannot_be_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        _run(**changes)
