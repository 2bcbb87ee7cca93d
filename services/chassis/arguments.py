"""Types and limits that the options of several operators' commands share."""

import argparse
from collections.abc import Callable

__all__ = ["LISTED_MAX", "whole_number"]

# Lines that a command lists at most.
LISTED_MAX = 10_000
NUMBER_LENGTH_MAX = 18


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: a whole number from `low` to `high`, both included."""

    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= NUMBER_LENGTH_MAX else low - 1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"a number from {low} to {high} is needed")
        return number

    return read
