"""Time zones by name, which come and go with the time zone data of a machine."""

from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

__all__ = ["DEFAULT_ZONE", "HOST_ZONES", "zone_known"]

# The default time zone of a mandate.
DEFAULT_ZONE: Final = "Europe/Zurich"
# Names that stand for the machine's own setting: two machines would put one event on different days.
HOST_ZONES: Final = frozenset({"Factory", "localtime", "posixrules"})


@lru_cache(maxsize=1024)
def zone_known(name: str) -> bool:
    """Whether the time zone data of this machine has a zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
