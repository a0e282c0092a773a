"""Chinese for the embedding room."""

EMBEDDING: dict[str, str] = {
    "Inspect embedding": "查看嵌入",
    "Edit embedding": "编辑嵌入",
}
"""English to Chinese."""
