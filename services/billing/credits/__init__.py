"""Money in: payments, budgets, manual credit."""
