"""What a command does with a study: check it, run what is missing, and conclude.

Functions that run something raise a ValueError where the study cannot be run as it is configured, a FileNotFoundError
where its data or weights are not there, a StorageError where the storage is away or refuses, and a RuntimeError where
experts or trials failed for good.
"""
