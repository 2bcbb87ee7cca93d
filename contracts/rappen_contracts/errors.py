"""The one error that reading a record can raise."""

__all__ = ["ContractError"]

DETAIL_LENGTH_MAX = 1000


class ContractError(ValueError):
    """A record that is not what its contract says; `code` is stable, `detail` is for people and holds no payload."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail[:DETAIL_LENGTH_MAX]
