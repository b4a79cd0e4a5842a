"""Files, storage, folders and the terminal."""
