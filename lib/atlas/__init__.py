"""Nineteen methods of interpretation on one network, and how each is measured (notebook 20)."""
