"""Figures, drawn from saved arrays and tables. Nothing is computed here, and no computing module imports this one."""
