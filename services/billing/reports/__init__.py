"""What people see of balances and the ledger."""
