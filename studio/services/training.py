"""Training as a job: check, open the run, lend the model, encode the pictures, learn, and put the result on the shelf."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from studio.dataset.batches import Batches, Sample, read_template
from studio.diffusion.model import Model
from studio.formats.embedding import read_embedding
from studio.jobs import Lane
from studio.requests.train import TextualInversionConfig, TrainRequest
from studio.services.desk import Desk
from studio.services.encoding import latent_store, samples_of
from studio.services.library import find_embedding
from studio.services.previewing import Painter, preview_request
from studio.services.training_checks import check, template_of
from studio.training.loop import Plan, train
from studio.training.methods import method_of
from studio.training.methods.trainable import Trainable
from studio.training.optim import Schedule, adamw, restore_optimizer
from studio.training.preparation import prepared
from studio.training.run import Checkpoint, Run
from studio.training.watch import Rhythm, Tally, Watch

FP16_SCALE = 2.0**14
"""Loss scale a run in fp16 begins with; each overflow divides it by four."""


def run(request: TrainRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Train, or go on where this job was killed; stopped or finished, the embedding is saved and usable at once."""
    config, paths = request.config, desk.paths
    folder = Run.open(paths.runs, config.embedding, lane.job)
    kept = folder.latest()
    if kept is None:
        check(config, paths)
    shelf = find_embedding(paths, config.embedding)
    with desk.cache.lend(config.checkpoint) as model:
        learner = method_of(request.method).attach(model, shelf)
        tally = Tally(**kept.facts) if kept else Tally(first=read_embedding(shelf).step or 0, scale=FP16_SCALE if model.dtype == torch.float16 else 1.0)
        schedule = Schedule.parse(config.learn_rate, config.steps, tally.first)
        samples = samples_of(folder, latent_store(config, paths, model), Path(config.data), lane)
        if not samples:
            return {"embedding": str(shelf), "run": str(folder.folder), "steps": tally.first, "stopped": True}
        plan = _plan(config, folder, model, samples, (shelf.stem, desk))
        if kept is None:
            _describe(folder, request, model, tally.first)
            _warn_unnamed(plan.batches, lane)
        optimizer = adamw(learner.parameters(), schedule.at(tally.first))
        rhythm = Rhythm(schedule, config.save_every, config.preview_every)
        painter = Painter(preview_request(config, model, shelf.stem), model, learner, plan.others, folder.samples)
        watch = Watch(folder, lane, learner, optimizer, rhythm, shelf, painter, tally, step=tally.first)
        if kept is not None:
            _take_up(kept, watch)
        with _shown(desk, learner), prepared(model, config.gradient_checkpointing, config.compile, watch.note) as network:
            watch.begin(resumed=kept is not None)
            finished = train(network, learner, optimizer, plan, watch)
            watch.finish()
    return {"embedding": str(shelf), "run": str(folder.folder), "steps": watch.step, "stopped": not finished}


@contextmanager
def _shown(desk: Desk, learner: Trainable) -> Iterator[None]:
    """Let prompts painted between two steps use the live vectors."""
    desk.live.update(learner.words())
    try:
        yield
    finally:
        for name in learner.words():
            desk.live.pop(name, None)


def _plan(config: TextualInversionConfig, folder: Run, model: Model, samples: tuple[Sample, ...], rest: tuple[str, Desk]) -> Plan:
    """What each step does; the template's lines are noted, so that editing the file does not change a run that goes on."""
    name, desk = rest
    lines = tuple(folder.noted("template") or ())
    if not lines:
        lines = read_template(template_of(config, desk.paths))
        folder.note("template", lines)
    batches = Batches(samples, lines, name, config.batch_size, config.seed, config.gradient_accumulation, config.shuffle_tags, config.drop_out_tags, config.latent_sampling)
    text = "\n".join([*lines, *(s.caption for s in samples), config.preview_prompt, config.preview_negative_prompt])
    others = {word: vectors.to(model.device) for word, vectors in desk.words(text).items() if word != name}
    clip = (config.clip_grad_mode, config.clip_grad_value)
    return Plan(batches, config.min_snr_gamma, config.noise_offset, clip, config.clip_skip, others, config.gradient_checkpointing)


def _take_up(kept: Checkpoint, watch: Watch) -> None:
    """Go on from a checkpoint."""
    watch.learner.restore(kept.tensors)
    restore_optimizer(watch.optimizer, kept.tensors)
    watch.step = kept.step
    watch.lane.emit("log", text=f"Going on from step {kept.step}.")


def _describe(folder: Run, request: TrainRequest, model: Model, first: int) -> None:
    """Write down what this run is made of."""
    facts = {"checkpoint": model.checkpoint, "checkpoint_hash": model.hash, "first_step": first, "started": datetime.now().astimezone().isoformat(timespec="seconds")}
    folder.note("config", {**request.model_dump(mode="json"), "facts": facts})


def _warn_unnamed(batches: Batches, lane: Lane) -> None:
    """Say when training prompts do not hold the word that should learn."""
    holding, all_ = batches.naming()
    if holding == 0:
        lane.emit("warning", text=f"No training prompt holds {batches.name!r}: nothing can be learned. Choose a template with [name].")
    elif holding < all_:
        lane.emit("warning", text=f"Only {holding} of {all_} training prompts hold {batches.name!r}; the others teach it nothing.")
