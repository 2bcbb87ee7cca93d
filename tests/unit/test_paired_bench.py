"""The comparison of two checkouts: ratios are of what both did in all, or of neighbours in time."""

from __future__ import annotations

import pytest

from tests.bench.paired import CheckTurn, Row, Turn, charged_rows, checked_rows, render


def turn(count: int, seconds: float = 1.0, **cpu_s: float) -> Turn:
    return Turn(count, seconds, cpu_s, others_percent=1.0)


def by_name(rows: list[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows}


def test_the_rate_is_of_all_events_in_all_of_the_time() -> None:
    # The mean of the turns' rates would be 250.
    this, other = [turn(100, 1.0), turn(1200, 3.0)], [turn(100, 1.0), turn(100, 1.0)]
    row = by_name(charged_rows(this, other, (1, 1)))["events/s"]
    assert (row.this, row.other, row.ratio) == (325.0, 100.0, 3.25)


def test_the_median_of_rounds_compares_neighbours_and_is_not_moved_by_one_of_them() -> None:
    # The machine halves in the second round for both; in the third somebody took it from this side alone.
    this, other = [turn(110), turn(55), turn(1)], [turn(100), turn(50), turn(100)]
    row = by_name(charged_rows(this, other, (1, 1)))["events/s, median of rounds"]
    assert row.ratio == pytest.approx(1.1)
    assert row.this is row.other is None


def test_a_round_in_which_a_side_committed_nothing_has_no_ratio() -> None:
    this, other = [turn(0), turn(30)], [turn(10), turn(10)]
    assert by_name(charged_rows(this, other, (1, 1)))["events/s, median of rounds"].ratio == 3.0
    assert by_name(charged_rows([turn(0)], [turn(10)], (1, 1)))["events/s, median of rounds"].ratio is None


def test_cpu_is_by_event_of_all_turns_by_process_and_together() -> None:
    this = [turn(1000, worker=0.04, postgres=0.01), turn(3000, worker=0.12, postgres=0.03)]
    other = [turn(1000, worker=0.05, postgres=0.01), turn(1000, worker=0.05, postgres=0.01)]
    rows = by_name(charged_rows(this, other, (1, 1)))
    worker, together = rows["worker, CPU us/event"], rows["all, CPU us/event"]
    assert (worker.this, worker.other) == (pytest.approx(40), pytest.approx(50))
    assert worker.ratio == pytest.approx(0.8)
    assert (together.this, together.other) == (pytest.approx(50), pytest.approx(60))
    # A backlog has no producer beside it, so there is no row of it.
    assert "load, CPU us/event" not in rows


def test_a_side_without_events_has_no_cpu_an_event() -> None:
    row = by_name(charged_rows([turn(0, worker=0.1)], [turn(10, worker=0.1)], (1, 1)))["worker, CPU us/event"]
    assert (row.this, row.ratio) == (None, None)


def test_batches_have_a_ratio_too() -> None:
    assert by_name(charged_rows([turn(1)], [turn(1)], (3000, 2000)))["events in a batch"].ratio == 1.5


def test_latencies_of_checks_are_medians_of_the_turns() -> None:
    def checks(*p99s_ms: float) -> list[CheckTurn]:
        return [CheckTurn(2500, 2.5, {"api": 1.0}, 0.0, p50_ms=p99 / 4, p99_ms=p99) for p99 in p99s_ms]

    # A mean would be moved by the one turn in which the machine was somebody else's.
    this, other = checks(2.0, 3.0, 90.0), checks(4.0, 4.0, 4.0)
    rows = by_name(checked_rows(this, other))
    assert (rows["p99 ms"].this, rows["p99 ms"].ratio) == (3.0, 0.75)
    assert rows["p50 ms"].ratio == 0.75
    assert rows["api, CPU us/check"].this == pytest.approx(400)


def test_a_turn_takes_what_it_knows_from_an_answer_that_says_more() -> None:
    answer = {"count": 5, "seconds": 1.0, "cpu_s": {"api": 0.1}, "others_percent": 2.0, "p50_ms": 1.0, "p99_ms": 2.0}
    assert Turn.of(answer | {"left": 7}) == Turn(5, 1.0, {"api": 0.1}, 2.0)
    assert CheckTurn.of(answer) == CheckTurn(5, 1.0, {"api": 0.1}, 2.0, 1.0, 2.0)


def test_a_table_leaves_out_what_there_is_not() -> None:
    table = render("live", [Row.of("events/s", 20_000.4, 10_000), Row("median", None, None, 1.25)])
    assert [line.split() for line in table.splitlines()] == [
        ["live", "this", "other", "this/other"],
        ["events/s", "20,000", "10,000", "2.000"],
        ["median", "1.250"],
    ]
