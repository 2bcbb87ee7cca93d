"""Numbers of bodies: exactly what their literals say, or refused."""

from decimal import Decimal

import pytest
from pydantic_core import PydanticCustomError

from services.chassis.bodies import exact_number

read = exact_number(11)


@pytest.mark.parametrize(
    "value",
    [0, -3, 99_999_999_999, Decimal("0.000001"), Decimal("-1.5000000000"), Decimal("1E+10"), Decimal("0E+40")],
)
def test_a_number_is_what_its_literal_says(value: int | Decimal) -> None:
    assert read(value) == value


@pytest.mark.parametrize(
    "value",
    [
        *(True, None, "1", 1.5, 10**11, -(10**11), 10**300),
        *map(Decimal, ("NaN", "Infinity", "1E+11", "0.0000001", "1E-400", "1E+400")),
        # More digits than the decimals of a thread's own context have: rounded by that, it would be 1.
        Decimal("1.0000000000000000000000000000001"),
        Decimal("1." + "0" * 60 + "1"),
    ],
)
def test_what_is_no_such_number_is_refused(value: object) -> None:
    with pytest.raises(PydanticCustomError) as refused:
        read(value)
    assert refused.value.context is not None
    assert set(refused.value.context) == {"de"}
