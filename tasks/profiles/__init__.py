"""Profiles: the checkpoints and data behind the names of tasks and roles."""
