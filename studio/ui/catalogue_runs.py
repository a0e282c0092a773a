"""Chinese for the Runs tab: the table, comparing, recipe cards and the queue."""

RUNS: dict[str, str] = {
    "Sheet": "预览总览图",
    "Average": "权重平均",
    "Run grid": "训练对比网格",
}
"""English to Chinese."""
