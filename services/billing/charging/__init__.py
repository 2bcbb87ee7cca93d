"""Charging usage, at once or, if it was parked, later."""
