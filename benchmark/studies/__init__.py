"""Measurements of the units themselves, independent of their labels: ``--analysis NAME``."""
