"""Tuning by image sets."""
