"""Captioned scenes: their content, their drawing and their captions."""
