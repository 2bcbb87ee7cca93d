"""Ids that are made for many rows at once are those that the library makes, one by one."""

from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from services.billing.charging.correct_prices import correction_id
from services.billing.ledger.domain import (
    LEDGER_NAMESPACE,
    own_id,
    transaction_id,
    transaction_id_text,
    transaction_place,
)


@given(st.integers(0, 2**60 - 1), st.integers(0, 2**62 - 1))
def test_the_text_of_a_transactions_id_is_that_of_the_id(account_no: int, seq: int) -> None:
    text = transaction_id_text(account_no, seq)
    assert text == str(transaction_id(account_no, seq))
    assert transaction_place(UUID(text)) == (account_no, seq)


@given(st.text())
def test_an_id_of_ours_is_a_uuid_of_its_name(name: str) -> None:
    assert own_id(name) == uuid5(LEDGER_NAMESPACE, name).bytes


@given(st.integers(1, 2**31 - 1), st.uuids(), st.integers(1, 2**31 - 1))
def test_the_id_of_a_correction_stays_what_it_was(mandate_no: int, event_id: UUID, number: int) -> None:
    named = uuid5(LEDGER_NAMESPACE, f"correction/{mandate_no}/{event_id}/{number}")
    assert correction_id(mandate_no, event_id, number) == named.bytes
