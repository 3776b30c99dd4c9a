"""Tables of results, independent of their output format."""
