"""Scores for labels made outside CLEAR."""
