"""Experts: students trained on real pairs, and the trajectories they leave."""
