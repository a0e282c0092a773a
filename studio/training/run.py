"""Run: the folder of one training, with its config, curve, samples, copies, and checkpoints that survive a kill at any moment."""

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from studio.files import atomic_write, sha256

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
        _write_json(self.folder / f"{name}.json", facts)

    def noted(self, name: str) -> Any:
        """Facts kept before, None when there are none."""
        try:
            return json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the tensors, then the manifest that makes them a checkpoint, each whole or not at all; keep the newest two that are valid."""
        manifest = self.checkpoints / f"{checkpoint.step:08d}.json"
        with atomic_write(manifest.with_suffix(".safetensors")) as temporary:
            save_file({k: v.detach().cpu().contiguous() for k, v in checkpoint.tensors.items()}, temporary)
            digest = sha256(temporary)
        _write_json(manifest, {"step": checkpoint.step, "sha256": digest, "facts": checkpoint.facts})
        self._prune()

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint whose file is what its manifest says; None when there is none."""
        return next((c for c in map(_load, self._manifests()) if c is not None), None)

    def _manifests(self) -> list[Path]:
        """Manifests of checkpoints, newest first."""
        return sorted((p for p in self.checkpoints.glob("*.json") if p.stem.isdigit()), reverse=True)

    def _prune(self) -> None:
        """Remove what is older than the newest valid ones, and what a killed save left behind."""
        valid: list[str] = []
        for manifest in self._manifests():
            if len(valid) < KEEP and _load(manifest) is not None:
                valid.append(manifest.stem)
        for file in self.checkpoints.iterdir():
            if len(valid) == KEEP and file.stem.isdigit() and file.stem < valid[-1]:
                file.unlink(missing_ok=True)

    def rewind_curve(self, step: int) -> None:
        """Cut the curve back to `step`, where the run goes on; a half-written last line goes too."""
        lines = self.curve.read_text(encoding="utf-8").splitlines(keepends=True)[1:] if self.curve.exists() else []
        kept = [line for line in lines if line.endswith("\n") and line.split(",")[0].isdigit() and int(line.split(",")[0]) <= step]
        with atomic_write(self.curve) as temporary:
            temporary.write_text(CURVE + "".join(kept), encoding="utf-8")


def _write_json(path: Path, facts: Any) -> None:
    """Plain facts as a file that is whole or not there."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=2, ensure_ascii=False), encoding="utf-8")


def _load(manifest: Path) -> Checkpoint | None:
    """A checkpoint; None when anything of it is missing or is not what the manifest says."""
    try:
        said = json.loads(manifest.read_text(encoding="utf-8"))
        state = manifest.with_suffix(".safetensors")
        return Checkpoint(int(said["step"]), load_file(state), said["facts"]) if sha256(state) == said["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None
