"""Accounting: every acknowledged record is found again, once. Readers here share no code with the writers."""
