"""Balances and the ledger, as callers may see them."""
