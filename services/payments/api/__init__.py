"""The HTTP surface of payments: the same paths as the public one."""
