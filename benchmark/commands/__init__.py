"""Commands that are too long for ``benchmark.cli``; their imports happen when they run."""
