"""Accounts and the rows that move them; the books told, and audited."""
