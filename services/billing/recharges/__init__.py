"""Automatic recharges: what is asked of payments where a prepaid balance is low, and what becomes of it."""
