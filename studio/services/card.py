"""The memory of a CUDA card, counted as A1111's API tells it."""

from typing import Any

import torch

KINDS = {"active": "active_bytes", "allocated": "allocated_bytes", "reserved": "reserved_bytes", "inactive": "inactive_split_bytes"}
"""A1111's word and torch's, for bytes in use now and at most so far."""


def card(device: torch.device | None = None) -> dict[str, Any]:
    """Bytes of the whole card, and of this process by kind; empty without a card."""
    if not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info(device)
    stats = torch.cuda.memory_stats(device)
    parts = {word: {"current": stats.get(f"{kind}.all.current", 0), "peak": stats.get(f"{kind}.all.peak", 0)} for word, kind in KINDS.items()}
    return {"system": {"free": free, "used": total - free, "total": total}, **parts, "events": {"retries": stats.get("num_alloc_retries", 0), "oom": stats.get("num_ooms", 0)}}
