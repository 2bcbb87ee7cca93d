"""Values over the limit of a record: of them only the beginning is kept."""

from hashlib import sha256

from rappen_contracts.registry import RECORD_BYTES_MAX

__all__ = ["CUT_BYTES", "CutValue"]

# What is kept of a value over the limit. A key is kept up to that limit itself.
CUT_BYTES = 64 * 1024


class CutValue(bytes):
    """The beginning of a value that is over the limit, with the length and digest of the whole."""

    length: int
    digest: bytes
    code = "RECORD_TOO_LARGE"
    why = f"at most {RECORD_BYTES_MAX} bytes"

    @classmethod
    def of(cls, value: bytes) -> "CutValue":
        """The truncated form of a value, with its length and digest."""
        cut = cls(value[:CUT_BYTES])
        cut.length = len(value)
        cut.digest = sha256(value).digest()
        return cut
