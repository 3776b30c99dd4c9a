"""Perturbation-sensitive units."""
