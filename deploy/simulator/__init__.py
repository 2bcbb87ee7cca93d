"""AI services that do not exist: a demo tenant, the usage it would publish, and a live view of the charges."""
