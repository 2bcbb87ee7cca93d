"""What a repeat of each operation means is said where it is described."""

from services.chassis.operations import EXTENSION, Repeat
from services.gateway.edge.operations import SERVICES, Operation, operations_of, read_document

MOVE_MONEY = {
    "billing-authorize-hold",
    "billing-change-model",
    "billing-credit",
    "billing-give-promotion",
    "billing-redeem",
    "billing-rerate",
    "payments-create-checkout",
    "payments-set-up-method",
    "store-activate",
    "subscriptions-start",
}


def _operations() -> list[Operation]:
    return [operation for name in (*SERVICES, "gateway") for operation in operations_of(read_document(name))]


def test_each_post_says_what_a_repeat_of_it_means() -> None:
    operations = _operations()
    silent = {each.id for each in operations if each.method == "POST" and "repeat" not in each.described[EXTENSION]}
    assert silent == set()
    assert {operation.repeats for operation in operations if operation.method == "GET"} == {Repeat.READ}


def test_whatever_moves_money_is_made_once_for_each_key() -> None:
    assert {operation.id for operation in _operations() if operation.repeats is Repeat.KEY} == MOVE_MONEY
