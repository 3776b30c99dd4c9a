"""Estimates the cost of a run before it starts: counted from its options, and timed by a short probe of each stage."""
