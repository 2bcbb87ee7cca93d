"""The database and its roles: one schema, one owner and one application role for each service."""
