"""The book of a run: its executed notebooks, its claims and the modules of lib as one site that needs no network."""
