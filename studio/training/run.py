"""Run: the folder of one training, with its config, curve, samples, copies, and checkpoints that survive a kill at any moment."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from studio.formats.files import atomic_write, fsync_folder, sha256

KEEP = 2
"""Valid checkpoints that are kept."""
CURVE = "step,loss,smoothed,learn_rate,norm,distance\n"


@dataclass(frozen=True)
class Checkpoint:
    """A moment a run can go on from: steps done, tensors by name, and plain facts."""

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """outputs/runs/<date>-<name>-<job>/; the same job finds its folder again."""

    folder: Path

    @classmethod
    def open(cls, runs: Path, name: str, job: str) -> "Run":
        """The folder of this job: the one it had before, else a new one of today."""
        found = sorted(runs.glob(f"*-{job}"))
        run = cls(found[0] if found else runs / f"{date.today().isoformat()}-{name}-{job}")
        for part in (run.samples, run.copies, run.checkpoints):
            part.mkdir(parents=True, exist_ok=True)
        return run

    @property
    def samples(self) -> Path:
        """Previews."""
        return self.folder / "samples"

    @property
    def copies(self) -> Path:
        """Copies of what is learned, by step."""
        return self.folder / "embeddings"

    @property
    def checkpoints(self) -> Path:
        """Where the run can go on from."""
        return self.folder / "checkpoints"

    @property
    def curve(self) -> Path:
        """One line per step."""
        return self.folder / "curve.csv"

    def note(self, name: str, facts: Any) -> None:
        """Keep plain facts as <name>.json."""
        with atomic_write(self.folder / f"{name}.json") as file:
            file.write(json.dumps(facts, indent=2, ensure_ascii=False).encode())

    def noted(self, name: str) -> Any:
        """Facts kept before, None when there are none."""
        try:
            return json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint under a temporary name, flush it, rename it, and keep the newest two that are valid."""
        final, temporary = self._at(checkpoint.step), self.checkpoints / f".{checkpoint.step:08d}.{os.getpid()}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        state = to_safetensors({k: v.detach().cpu().contiguous() for k, v in checkpoint.tensors.items()})
        with atomic_write(temporary / "state.safetensors") as file:
            file.write(state)
        manifest = {"step": checkpoint.step, "facts": checkpoint.facts, "files": {"state.safetensors": sha256(temporary / "state.safetensors")}}
        with atomic_write(temporary / "manifest.json") as file:
            file.write(json.dumps(manifest, indent=2).encode())
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        fsync_folder(self.checkpoints)
        self._prune()

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint whose files are what their manifest says; None when there is none."""
        return next((c for c in map(_load, self._folders()) if c is not None), None)

    def _at(self, step: int) -> Path:
        """Folder of the checkpoint at `step`."""
        return self.checkpoints / f"{step:08d}"

    def _folders(self) -> list[Path]:
        """Checkpoint folders, newest first."""
        return sorted((p for p in self.checkpoints.iterdir() if p.name.isdigit()), reverse=True)

    def _prune(self) -> None:
        """Remove what is older than the newest valid ones, and leavings of a killed save."""
        valid = 0
        for folder in self._folders():
            if valid >= KEEP:
                shutil.rmtree(folder, ignore_errors=True)
            elif _load(folder) is not None:
                valid += 1
        for leaving in self.checkpoints.glob(".*.tmp"):
            shutil.rmtree(leaving, ignore_errors=True)

    def rewind_curve(self, step: int) -> None:
        """Cut the curve back to `step`, where the run goes on; a half-written last line goes too."""
        lines = self.curve.read_text(encoding="utf-8").splitlines(keepends=True)[1:] if self.curve.exists() else []
        kept = [line for line in lines if line.endswith("\n") and line.split(",")[0].isdigit() and int(line.split(",")[0]) <= step]
        with atomic_write(self.curve) as file:
            file.write((CURVE + "".join(kept)).encode())


def _load(folder: Path) -> Checkpoint | None:
    """A checkpoint, None when anything in it is missing or is not what the manifest says."""
    try:
        manifest: Mapping[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if any(sha256(folder / name) != digest for name, digest in manifest["files"].items()):
            return None
        return Checkpoint(int(manifest["step"]), from_safetensors((folder / "state.safetensors").read_bytes()), manifest["facts"])
    except (OSError, ValueError, KeyError, SafetensorError):
        return None
