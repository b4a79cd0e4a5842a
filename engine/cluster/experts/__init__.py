"""Train expert trajectories on a cluster, and serve them from a registry.

Functions that train raise a ValueError where an expert cannot be trained as it is configured, or is damaged and not to
be trained again, a FileNotFoundError where a file of the data or the weights is absent, and a RuntimeError where an
expert could not be trained otherwise, or training was stopped.
"""
