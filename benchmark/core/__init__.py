"""One run of the benchmark, from its options to its scores."""
