"""Data sets, one a file: each defines ``DataSet``, a frozen dataclass whose fields are the options of the YAML.

``load(paths)`` returns train, val and test as ``PairDataset``; ``sizes(paths)`` returns the ``Size`` of each without
reading an image.
"""
