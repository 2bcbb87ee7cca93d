"""What a repeat of each operation means is said where it is described."""

from services.gateway.api import billing, directory_operations, payments, subscriptions, usage
from services.gateway.api.operations import Operation, Repeat

MOVE_MONEY = {"billing-credit", "billing-change-model", "payments-create-checkout", "subscriptions-start"}


def _operations() -> list[Operation]:
    modules = (billing, directory_operations, payments, subscriptions, usage)
    found = [value for module in modules for value in vars(module).values()]
    listed = [*billing.OPERATIONS, *subscriptions.OPERATIONS]
    return [*listed, *(value for value in found if isinstance(value, Operation))]


def test_each_post_says_what_a_repeat_of_it_means() -> None:
    operations = _operations()
    assert {
        operation.id for operation in operations if operation.method == "POST" and operation.repeat is None
    } == set()
    assert {operation.repeats for operation in operations if operation.method == "GET"} == {Repeat.READ}


def test_whatever_moves_money_is_made_once_for_each_key() -> None:
    assert {operation.id for operation in _operations() if operation.repeats is Repeat.KEY} == MOVE_MONEY
