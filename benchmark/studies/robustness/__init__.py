"""Accuracy kept under perturbation."""
