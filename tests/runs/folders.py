"""Run folders as a training writes them, made of a few lines."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {"embedding": "hero", "data": "/nowhere/hero", "learn_rate": "0.005", "steps": 100, "preview_prompt": "a [name]", "preview_seed": 7}


def png(red: int = 200) -> bytes:
    """A PNG of one pixel, written by hand."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(bytes([0, red, 0, 0]))) + chunk(b"IEND", b"")


def lines(path: Path, *values: Any) -> None:
    """Append objects as lines of JSON, and text as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)) + "\n" for value in values)


def old(folder: Path, steps: int = 40, **config: Any) -> Path:
    """A run of an earlier version: config.json, curve.csv, samples/<step>.png."""
    folder.mkdir(parents=True)
    facts = {"checkpoint": "tiny.safetensors", "checkpoint_hash": "ab" * 32, "first_step": 0, "started": "2026-01-02T03:04:05+00:00"}
    (folder / "config.json").write_text(json.dumps({"method": "textual_inversion", "config": {**CONFIG, **config}, "facts": facts}))
    lines(folder / "curve.csv", "step,loss,smoothed,learn_rate,norm,distance", *(f"{n},{1 / n!r},{2 / n!r},0.005,0.4,0.01" for n in range(1, steps + 1)))
    for step in (0, 20):
        (folder / "samples").mkdir(exist_ok=True)
        (folder / f"samples/{step:06d}.png").write_bytes(png())
    (folder / "embeddings").mkdir()
    (folder / f"embeddings/{CONFIG['embedding']}-20.pt").write_bytes(b"weights at 20")
    return folder


def full(folder: Path, **config: Any) -> Path:
    """A run with a probe, a verdict, listed previews and weights for each."""
    old(folder, **config)
    lines(folder / "probe.csv", "step,train,low,high,held,composition,shape,detail,drift", *(f"{s},{-s / 10},{-s / 9},{-s / 11},,,,," for s in (0, 20, 40)))
    lines(folder / "verdicts.jsonl", {"step": 40, "state": "improving", "text": "Still improving: {change} %.", "advice": "Keep training.", "values": {"change": "4"}, "span": [0, 40]})
    for step in (0, 20):
        (folder / f"samples/{step:06d}-0.png").write_bytes(png(step))
        (folder / f"embeddings/hero-{step}.pt").write_bytes(f"weights at {step}".encode())
        lines(folder / "previews.jsonl", {"step": step, "path": f"samples/{step:06d}-0.png", "prompt": "a hero", "column": 0, "seed": 7, "weights": f"embeddings/hero-{step}.pt"})
    (folder / "embeddings/hero-best.pt").write_bytes(b"the best")
    (folder / "best.json").write_text(json.dumps({"step": 20, "value": -2.0, "path": "embeddings/hero-best.pt"}))
    (folder / "template.json").write_text(json.dumps(["a photo of [name]"]))
    (folder / "result.json").write_text(json.dumps({"state": "done", "steps": 40, "stopped": False, "error": None, "seconds": 12.5, "embedding": "hero"}))
    return folder
