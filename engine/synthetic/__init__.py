"""The synthetic set: what is learned, and how it starts."""
