"""Pairs of images and captions: reading, drawing, caching and augmenting them."""
