"""Invoices of CREDIT_POSTPAY: the month of a mandate, closed, numbered, issued once and never changed."""
