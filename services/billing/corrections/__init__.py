"""Charges that are taken back by a system administrator."""
