"""Chinese for the embedding room."""

EMBEDDING: dict[str, str] = {}
"""English to Chinese."""
