"""The shipped spaces: one YAML a study, found by name."""
