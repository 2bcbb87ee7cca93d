"""AI services and customers that do not exist: demo tenants, their usage and payments, and a live view of it."""
