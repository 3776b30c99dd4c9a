"""Training and measuring the miniature's models; each script is seeded and runs on CPU or GPU."""
