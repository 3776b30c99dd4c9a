"""Run folders: tables, cells and their checks on disk."""
