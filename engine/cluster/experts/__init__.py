"""Train expert trajectories on a cluster, and serve them from a registry."""
