"""Losses: contrastive losses of two towers, the matching loss of trajectories, and a kernel energy."""
