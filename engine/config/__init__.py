"""The configuration of a study: its schema, how it is read and checked, and the components that it names."""
