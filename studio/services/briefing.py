"""Briefing: what the process that leads a training tells the others before the first step, so that they need nothing but the checkpoint."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from studio.diffusion.model import Model
from studio.errors import InputError
from studio.requests.train import TrainConfig
from studio.training.passes import Plan
from studio.training.several import ALONE, Team


@dataclass(frozen=True)
class Brief:
    """What is trained: the method, its knobs, what each step does, and the checkpoint with its hash and precision."""

    method: str
    config: dict[str, Any]
    plan: Plan
    checkpoint: str
    hash: str
    dtype: str

    @classmethod
    def of(cls, config: TrainConfig, plan: Plan, model: Model) -> "Brief":
        """The brief of a run; nothing in it is on a card."""
        others = {word: vectors.cpu() for word, vectors in plan.others.items()}
        return cls(config.method, config.model_dump(mode="json"), replace(plan, others=others, team=ALONE), model.checkpoint, model.hash, str(model.dtype))

    def check(self, model: Model) -> str:
        """Why a process cannot take part with this model; empty when it can."""
        if model.hash != self.hash:
            return f"{self.checkpoint} is another checkpoint here ({model.hash[:10]}) than where the training is led ({self.hash[:10]})"
        return "" if str(model.dtype) == self.dtype else f"{self.checkpoint} is in {model.dtype} here and in {self.dtype} where the training is led"


def brief(config: TrainConfig, plan: Plan, model: Model, start: Path | None, team: Team) -> None:
    """Tell the others what they work on, and wait until they are ready; raises InputError when one of them cannot take part. Alone there is nobody to tell."""
    if team.size == 1:
        return
    team.briefed = True
    team.told(Brief.of(config, plan, model))
    team.file(start, Path())
    ready(team, "")


def ready(team: Team, problem: str) -> None:
    """Wait for everybody; raises InputError in every process when one of them has a problem."""
    problems = [f"process {rank}: {said}" for rank, said in enumerate(team.heard(problem)) if said]
    if problems:
        raise InputError(f"Not every process can take part ({'; '.join(problems)}).", "Give every machine the same files and settings.")
