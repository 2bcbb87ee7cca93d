"""What an operator can run into, as against a fault of ours."""


class StackError(Exception):
    """An expected failure; its text is the one line the operator reads, so it says what to do when that is known."""
