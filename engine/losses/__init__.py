"""Losses: the contrast between towers and the match between trajectories."""
