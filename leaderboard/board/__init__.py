"""Runs merged, summarised and compared."""
