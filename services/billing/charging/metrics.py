"""What the charge tells of its two forms."""

from prometheus_client import Counter

__all__ = ["FAST_FORM_ERRORS", "PUBLISHED_FORM"]

PUBLISHED_FORM = Counter(
    "rappen_usage_published_form_total",
    "Usage that was read or priced in the published form, not the fast one.",
    ["step"],
)
FAST_FORM_ERRORS = Counter(
    "rappen_usage_fast_form_errors_total", "Usage at which the fast form raised, and went the published way.", ["step"]
)
