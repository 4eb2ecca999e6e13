"""Figures, drawn from saved arrays and tables: nothing is computed here, and nothing that computes imports it."""
