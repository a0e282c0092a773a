"""Run: the folder of one training, with its config, curve, samples, copies, and checkpoints that survive a kill at any moment."""

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from studio.files import atomic_write, sha256
from studio.training import lines

KEEP = 2
"""Valid checkpoints that are kept."""
CURVE = "step,loss,smoothed,learn_rate,norm,distance\n"
PROBE = "step,train,low,high,held,composition,shape,detail,drift\n"
TABLES = (("curve.csv", CURVE), ("probe.csv", PROBE))
LISTS = ("verdicts.jsonl", "previews.jsonl", "log.jsonl")
"""Files that grow by the step; the journal grows too, but says what is still to be done again and is never cut."""


@dataclass(frozen=True)
class Checkpoint:
    """A moment a run can go on from: steps done, tensors by name, and plain facts; `good` says that nothing looked alarming."""

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    good: bool = True


@dataclass(frozen=True)
class Run:
    """outputs/runs/<date>-<name>-<job>/; a job finds its folder again."""

    folder: Path

    @classmethod
    def open(cls, runs: Path, name: str, job: str, going_on: str = "") -> "Run":
        """The folder of this job: the one it had before, else `going_on`, else a new one of today."""
        found = sorted(runs.glob(f"*-{job}")) or [path.parent for path in sorted(runs.glob("*/run.json")) if job in _jobs(path)]
        new = runs / (going_on or f"{date.today().isoformat()}-{name}-{job}")
        run = cls(found[0] if found else new)
        for part in (run.samples, run.copies, run.checkpoints):
            part.mkdir(parents=True, exist_ok=True)
        if not found:
            said = run.noted("run")
            run.note("run", {**(said if isinstance(said, dict) else {}), "jobs": [*_jobs(run.folder / "run.json"), job]})
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

    @property
    def journal(self) -> Path:
        """What a person changed while it ran."""
        return self.folder / "journal.jsonl"

    def note(self, name: str, facts: Any) -> None:
        """Keep plain facts as <name>.json."""
        _write_json(self.folder / f"{name}.json", facts)

    def noted(self, name: str) -> Any:
        """Facts kept before, None when there are none."""
        try:
            return json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def tell(self, name: str, facts: dict[str, Any]) -> None:
        """Add a line to <name>.jsonl."""
        lines.append(self.folder / f"{name}.jsonl", lines.object_line(facts))

    def count(self, name: str, row: tuple[Any, ...]) -> None:
        """Add a row to <name>.csv, numbers written so that they read back to the same bits, nothing for None."""
        lines.append(self.folder / f"{name}.csv", ",".join("" if value is None else repr(value) for value in row))

    def relative(self, path: Path) -> str:
        """A path as the run's own lists name it."""
        return path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else str(path)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the tensors, then the manifest that makes them a checkpoint, each whole or not at all; keep the newest two that are valid, and the newest good one."""
        for name, _ in TABLES:
            lines.keep(self.folder / name)
        manifest = self.checkpoints / f"{checkpoint.step:08d}.json"
        with atomic_write(manifest.with_suffix(".safetensors")) as temporary:
            _write_tensors(temporary, checkpoint.tensors)
            digest = sha256(temporary)
        _write_json(manifest, {"step": checkpoint.step, "sha256": digest, "good": checkpoint.good, "facts": checkpoint.facts})
        self._prune()

    def latest(self, good: bool = False) -> Checkpoint | None:
        """The newest checkpoint whose file is what its manifest says, or the newest good one; None when there is none."""
        return next((c for c in map(_load, self._manifests()) if c is not None and (c.good or not good)), None)

    def damaged(self) -> list[int]:
        """Steps of checkpoints newer than the newest valid one: they were passed over."""
        steps = []
        for manifest in self._manifests():
            if _load(manifest) is not None:
                break
            steps.append(int(manifest.stem))
        return steps

    def _manifests(self) -> list[Path]:
        """Manifests of checkpoints, newest first."""
        return sorted((p for p in self.checkpoints.glob("*.json") if p.stem.isdigit()), reverse=True)

    def _prune(self) -> None:
        """Remove what is older than the newest valid ones and the newest good one, and what a killed save left behind."""
        valid: list[str] = []
        good = ""
        for manifest in self._manifests():
            if len(valid) >= KEEP and good:
                break
            kept = _load(manifest)
            if kept is None:
                continue
            valid += [manifest.stem] if len(valid) < KEEP else []
            good = good or (manifest.stem if kept.good else "")
        for file in self.checkpoints.iterdir():
            if len(valid) == KEEP and file.stem.isdigit() and file.stem < valid[-1] and file.stem != good:
                file.unlink(missing_ok=True)
            if file.name.startswith(".") and file.suffix == ".tmp":
                file.unlink(missing_ok=True)

    def cut_back(self, step: int) -> None:
        """Cut every log back to `step`, where the run goes on, and take away checkpoints that came after it; half-written last lines go too."""
        for manifest in self._manifests():
            if int(manifest.stem) > step:
                manifest.unlink(missing_ok=True)
                manifest.with_suffix(".safetensors").unlink(missing_ok=True)
        for name, heading in TABLES:
            lines.cut_csv(self.folder / name, heading.rstrip("\n"), step)
        for name in LISTS:
            lines.cut_objects(self.folder / name, step)
        (self.folder / "result.json").unlink(missing_ok=True)


def _jobs(path: Path) -> list[str]:
    """The jobs that worked in a run, as its run.json says; a damaged one says none."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    jobs = said.get("jobs") if isinstance(said, dict) else None
    return [str(job) for job in jobs] if isinstance(jobs, list) else []


def _write_json(path: Path, facts: Any) -> None:
    """Plain facts as a file that is whole or not there."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=2, ensure_ascii=False), encoding="utf-8")


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Tensors as a file, without a second copy of all in memory; raises OSError as writing does."""
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(errno.ENOSPC if "space" in str(error).lower() else errno.EIO, str(error)) from error


def _load(manifest: Path) -> Checkpoint | None:
    """A checkpoint; None when anything of it is missing or is not what the manifest says."""
    try:
        said = json.loads(manifest.read_text(encoding="utf-8"))
        state = manifest.with_suffix(".safetensors")
        return Checkpoint(int(said["step"]), load_file(state), said["facts"], bool(said.get("good", True))) if sha256(state) == said["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None
