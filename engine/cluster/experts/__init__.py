"""Expert trajectories on a cluster: actors that train them and the registry that serves them."""
