"""Accounts, the rows that move them, the days they fall on, and the publication of balances."""
