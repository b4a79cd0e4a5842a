"""Data sets, one a file: ``load(places, *, options...) -> dict[str, PairDataset]`` with keys train, val and test."""
