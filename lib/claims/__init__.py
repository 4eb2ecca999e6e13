"""The paper's claims, tested on the results of a run; each verdict follows from a rule."""
