"""What a run will cost, before it starts: counted from its options, and timed by a short probe of each stage."""
