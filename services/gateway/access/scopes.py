"""The scopes that the tokens of service accounts can have."""

__all__ = ["SCOPES"]

# Each scope with what it permits.
SCOPES = {
    "usage:write": "record usage and cancel it",
    "usage:check": "ask whether a member may spend, for their providers, and for a mandate's markup",
}
