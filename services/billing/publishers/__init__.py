"""Mandates whose usage used to arrive and does not any more."""
