"""Profiles: which checkpoints and data stand behind the names of tasks and roles."""
