"""Chinese for the Runs tab: the table, comparing, recipe cards and the queue."""

RUNS: dict[str, str] = {}
"""English to Chinese."""
