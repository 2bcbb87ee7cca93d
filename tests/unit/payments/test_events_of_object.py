"""Which stored events are processed together."""

from datetime import UTC, datetime

from services.payments.inbox.domain import StoredEvent, by_object, outcome_of_others

FETCHES = {"paid": "invoice", "finalized": "invoice", "trial": "reminder", "updated": "subscription"}


def stored(event_id: str, type_: str, object_id: str | None) -> StoredEvent:
    return StoredEvent(event_id, type_, object_id, 1)


def together(*events: StoredEvent) -> list[list[str]]:
    groups = by_object(events, lambda event: FETCHES.get(event.type), leased_until=datetime.now(UTC))
    return [each.event_ids for each in groups]


def test_those_of_one_object_that_are_fetched_in_the_same_way_in_their_order() -> None:
    events = (stored("1", "paid", "a"), stored("2", "updated", "a"), stored("3", "paid", "b"))
    assert together(*events, stored("4", "finalized", "a")) == [["1", "4"], ["2"], ["3"]]


def test_another_way_of_fetching_stands_apart() -> None:
    assert together(stored("1", "updated", "a"), stored("2", "trial", "a")) == [["1"], ["2"]]


def test_what_nothing_listens_to_is_done_together_and_so_is_what_names_no_object() -> None:
    events = (stored("1", "unknown", "a"), stored("2", "other", "b"), stored("3", "paid", None))
    assert together(*events, stored("4", "updated", None), stored("5", "paid", "a")) == [["1", "2"], ["3", "4"], ["5"]]


def test_what_changed_nothing_has_one_outcome_and_what_did_is_told_apart() -> None:
    assert outcome_of_others("NOT_OURS") == "NOT_OURS"
    assert outcome_of_others("UNPLACED") == "UNPLACED"
    assert outcome_of_others("CREDITED") == "SAME_OBJECT"
