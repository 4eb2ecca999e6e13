"""The paper's claims, tested on what a run has left behind, each with a verdict by rule."""
