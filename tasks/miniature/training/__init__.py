"""How the miniature's models are trained and measured; each script is seeded and runs on CPU or GPU."""
