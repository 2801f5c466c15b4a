"""Proof by simulation of what the judge promises, beside the rules of other tools on the same streams."""
