"""Errors, seeds, image files and YAML files, for all of tasks."""
