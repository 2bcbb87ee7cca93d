"""Time zones by name, which come and go with the time zone data of a machine."""

from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

__all__ = ["DEFAULT_ZONE", "zone_known"]

# The zone of a mandate for which nobody has set another.
DEFAULT_ZONE: Final = "Europe/Zurich"


@lru_cache(maxsize=1024)
def zone_known(name: str) -> bool:
    """Whether the time zone data of this machine has a zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
