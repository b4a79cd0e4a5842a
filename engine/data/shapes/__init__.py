"""A drawn world of captioned scenes: what is in them, how they look, and how people would word them."""
