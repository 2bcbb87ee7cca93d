"""Money in: payments, budgets, credit by hand."""
