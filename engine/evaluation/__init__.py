"""Evaluation: retrieval metrics, students trained on a set, the protocol, and the full data."""
