"""What service accounts can be allowed: the scopes of their tokens."""

__all__ = ["SCOPES"]

# Each with what it opens.
SCOPES = {
    "usage:write": "record usage and cancel it",
    "usage:check": "ask whether a member may spend, for their providers, and for a mandate's markup",
}
