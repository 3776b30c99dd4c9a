"""CLEAR's own method: concepts shortlisted by what the probing images say of them, chosen by a few drawn images.

Importing this package is light; the method itself is in ``baselines.clear.method``.
"""
