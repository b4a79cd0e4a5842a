"""The search over a study: Ray Tune trials, their scheduler and callbacks."""
