"""Concept bottlenecks under perturbation."""
