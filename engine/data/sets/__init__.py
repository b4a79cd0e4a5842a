"""Data sets, one a file: ``load(places, *, options...) -> dict[str, PairDataset]`` with keys train, val and test.

``sizes``, with the same options, tells how large the splits are without reading an image.
"""
