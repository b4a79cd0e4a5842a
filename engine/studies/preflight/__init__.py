"""Checks and estimates before a study starts."""
