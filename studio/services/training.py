"""Training as a job: check, open the run, lend the model, encode the pictures, learn, and put the result on the shelf."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from studio.cancellation import Stopped, stoppable
from studio.dataset.batches import Batches, Sample, read_template
from studio.diffusion.model import Model
from studio.errors import InputError
from studio.formats.embedding_optim import optim_path
from studio.jobs import Lane
from studio.requests.train import TrainConfig, TrainRequest
from studio.requests.unused_settings import unused_settings
from studio.services.briefing import brief
from studio.services.desk import Desk
from studio.services.encoding import Pictures, pictures_of
from studio.services.previewing import Previews
from studio.services.priors import prior_of
from studio.services.training_checks import check, template_of
from studio.services.training_folder import Ending, begun_on, described, going_on, listeners_of, opened, shelves_of, start_file
from studio.services.training_origin import Origin
from studio.services.training_seats import Aside, shown, within
from studio.training.appraisal import Appraiser, Rules, afford
from studio.training.course import Course
from studio.training.leading import led
from studio.training.loop import Plan, train
from studio.training.methods import method_of
from studio.training.methods.trainable import Trainable
from studio.training.optim import build, restore_optimizer
from studio.training.passes import LIGHT, SMALL, spare
from studio.training.preparation import prepared
from studio.training.run import Checkpoint, Run
from studio.training.watch import Rhythm, Tally, Watch

USUAL = Rhythm()
"""Checkpoints as often as anybody wants them."""
FP16_SCALE = 2.0**14
"""Loss scale a run in fp16 begins with; each overflow divides it by four."""


def run(request: TrainRequest, lane: Lane, desk: Desk, rhythm: Rhythm = USUAL) -> dict[str, Any]:
    """Train, or go on where this job was killed or where an earlier one ended; stopped or finished, what was learned is saved and usable at once.

    `rhythm` says how often the run becomes one that can go on. Until the first step a stop is heard anywhere; after that between two steps, and within measurements and previews.
    """
    folder = opened(request, desk.paths, lane.job)
    with Ending(folder) as ending, suppress(Stopped), stoppable(lane.stopping):
        ending.result = {"run": str(folder.folder), "steps": 0, "stopped": True}
        kept = folder.latest()
        if kept is None:
            check(request.config, desk.paths, desk.cache.device.type)
        config = request.config if kept is None else going_on(folder, request)
        ending.result = _untrained(config, folder, kept, desk)
        with desk.cache.lend(config.checkpoint or begun_on(folder), private=method_of(request.method).private(config)) as model:
            ending.result = _run(_Work(request, config, folder, kept, model, rhythm), lane, desk)
    return ending.result


def _untrained(config: TrainConfig, folder: Run, kept: Checkpoint | None, desk: Desk) -> dict[str, Any]:
    """What a job returns that is stopped before its first step."""
    shelf = next(iter(shelves_of(folder, method_of(config.method), config, desk.paths).values()))
    return {"embedding": str(shelf), "path": str(shelf), "run": str(folder.folder), "steps": kept.step if kept else 0, "stopped": True}


class _Work:
    """What a job trains: the request, the knobs in force when its run began, the folder, the checkpoint it goes on from, the model, and the rhythm of checkpoints."""

    def __init__(self, request: TrainRequest, config: TrainConfig, folder: Run, kept: Checkpoint | None, model: Model, rhythm: Rhythm) -> None:
        self.request, self.config, self.folder, self.kept, self.model, self.rhythm = request, config, folder, kept, model, rhythm


def _run(work: _Work, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Learn on a lent model, and say how it ended."""
    config, folder, kept, model = work.config, work.folder, work.kept, work.model
    method = method_of(work.request.method)
    start, shelves = start_file(folder, method, config, desk.paths), shelves_of(folder, method, config, desk.paths)
    shelf = next(iter(shelves.values()))
    first = int(kept.facts["tally"]["first"]) if kept else method.first(start) if start else 0
    learner = method.attach(model, start, config)
    if kept is None:
        refuse_contradictions(learner)
    learner.shelves = shelves
    pictures = pictures_of(config, folder, model, lane, desk.paths)
    result = {"embedding": str(shelf), "path": str(shelf), "run": str(folder.folder), "steps": first, "stopped": True}
    if not pictures.train:
        return result
    plan = plan_of(config, folder, model, pictures.train, (learner, desk))
    plan = replace(plan, prior=prior_of(config, plan, work.folder, model, (lane, desk, learner)), team=desk.team)
    if lane.stopping() and kept is None:
        return result
    facts = {"first_step": first, "fingerprint": pictures.fingerprint, "pictures": len(pictures.train), "shelves": {end: within(desk.paths.root, path) for end, path in shelves.items()}}
    described(folder, work.request, model, facts, kept is not None)
    watch = _watch(work, (learner, plan, pictures), Course(config, first), shelf, Aside(lane, learner), desk)
    if kept is None:
        _warn(plan.batches, pictures, learner, watch)
        _remember(start, method.start(desk.paths, config), config, watch)
    else:
        _take_up(kept, watch)
    brief(config, plan, model, start, desk.team)
    with learner.attached(), shown(desk, learner, config), prepared(model, config.gradient_checkpointing, config.compile, watch.note, spare(learner, plan)) as network, stoppable(None):
        watch.begin(resumed=kept is not None)
        train(network, learner, watch.optimizer, plan, led(watch, desk.team))
        watch.finish()
    stopped = watch.step < watch.end
    return {**result, "steps": watch.step, "stopped": stopped, **({"reason": watch.ended} if watch.ended else {})}


def plan_of(config: TrainConfig, folder: Run, model: Model, samples: tuple[Sample, ...], rest: tuple[Trainable, Desk]) -> Plan:
    """What each step does; the template's lines are noted, so that editing the file does not change a run that goes on."""
    learner, desk = rest
    lines = tuple(folder.noted("template") or ())
    if not lines:
        lines = read_template(template_of(config, desk.paths))
        folder.note("template", lines)
    return planned(config, model, Batches(samples, lines, word_of(config, learner), config.whole_batch, config.seed, config.gradient_accumulation, *varied(config)), (learner, desk))


def planned(config: TrainConfig, model: Model, batches: Batches, rest: tuple[Trainable, Desk]) -> Plan:
    """The plan of a training that looks at `batches`; words of the shelf that its prompts hold come along."""
    learner, desk = rest
    text = "\n".join([batches.name, *batches.templates, *(s.caption for s in batches.samples), config.preview_prompt, config.preview_negative_prompt])
    others = {word: vectors.to(model.device) for word, vectors in desk.words(text).items() if word not in learner.words()}
    clip = (config.clip_grad_mode, config.clip_grad_value)
    return Plan(batches, config.min_snr_gamma, config.noise_offset, clip, config.clip_skip, others, config.gradient_checkpointing, joined=LIGHT if learner.changes_network else SMALL)


def varied(config: TrainConfig) -> tuple[bool, float, str, bool, float]:
    """How pictures and captions vary, in the order Batches takes it."""
    return (config.shuffle_tags, config.drop_out_tags, config.latent_sampling, config.flip, config.caption_dropout)


def refuse_contradictions(learner: Trainable) -> None:
    """Raise InputError naming every setting that the file a new run goes on from contradicts."""
    wrong = learner.contradictions()
    if wrong:
        raise InputError(" ".join(wrong), "Or leave Go on from empty to begin a new one.")


def repeats_sentence(repeats: Sequence[int], config: TrainConfig) -> str:
    """How often images are repeated, and what an epoch then is."""
    counts = ", ".join(f"{count} image{'s' * (count > 1)} x {each}" for each, count in sorted(Counter(repeats).items()))
    return f"Repeats: {counts}. An epoch is {sum(repeats)} images, {config.steps_per_epoch(sum(repeats))} steps."


def word_of(config: TrainConfig, learner: Trainable) -> str:
    """What stands for [name] in prompts: an embedding as its file spells it, else what the knobs say."""
    return next((word for word in learner.words() if word.lower() == config.word.lower()), config.word)


def _watch(work: _Work, parts: tuple[Trainable, Plan, Pictures], course: Course, shelf: Path, lane: Lane, desk: Desk) -> Watch:
    """The watch of a run: its optimiser, appraiser, previews and listeners."""
    config, model, folder = work.config, work.model, work.folder
    learner, plan, pictures = parts
    with learner.attached(), learner.shown():
        appraiser = Appraiser.of(model, learner, plan, pictures.held, Rules(config.probe_every, course.end, config.stop_rule, config.patience))
    lines = 1 + bool(appraiser.probe.held) + bool(appraiser.probe.generic)
    previews = Previews(config, model, learner.words, plan.others, folder.samples, desk, lambda text: watch.note("warning", text))
    watch = Watch(
        folder,
        lane,
        learner,
        build(config.optimizer, [list(group.parameters) for group in learner.groups()], course.rate(course.first), getattr(config, "weight_decay", 0.0)),
        shelf,
        course,
        previews,
        appraiser,
        Tally(first=course.first, scale=FP16_SCALE if torch.float16 in (model.dtype, getattr(learner, "computes", None)) else 1.0),
        course.first,
        work.rhythm,
        listeners_of(config, folder, desk.paths, lane, (model, learner, pictures)),
        lambda every: afford(every, config.whole_batch, config.gradient_accumulation, lines)[1],
        origin=Origin(config, folder, model, plan.batches.samples, plan.prior),
    )
    return watch


def _take_up(kept: Checkpoint, watch: Watch) -> None:
    """Go on from a checkpoint."""
    damaged = watch.run.damaged()
    watch.take_up(kept)
    if damaged:
        steps = ", ".join(map(str, sorted(damaged)))
        watch.note("warning", f"The checkpoint of step {steps} was damaged, as after a power cut; going on from step {kept.step}, the newest that is whole.")
    watch.note("log", f"Going on from step {kept.step}.")


def _remember(start: Path | None, source: Path | None, config: TrainConfig, watch: Watch) -> None:
    """Take up what an optimiser remembered beside `source`, of which `start` is the run's copy; say why not when it cannot be."""
    if start is None or source is None or config.optimizer != "AdamW" or not optim_path(source).is_file():
        return
    tensors, reason = watch.learner.recalled(optim_path(source), start)
    if tensors is not None:
        restore_optimizer(watch.optimizer, tensors)
        reason = f"The optimiser goes on from {optim_path(source).name}."
    if reason:
        watch.note("log", reason)


def _warn(batches: Batches, pictures: Pictures, learner: Trainable, watch: Watch) -> None:
    """Say what the method says, when training prompts do not hold the word that should learn, and when pictures are too few or all the same."""
    for sentence in (*learner.warnings(), *(reason.sentence for reason in unused_settings(watch.course.config, batches.templates))):
        watch.note("warning", sentence)
    holding, all_ = batches.naming()
    if not learner.words():
        if holding == 0:
            watch.note("log", f"No training prompt holds {batches.name!r}: what is learned will show without any word.")
    elif holding == 0:
        watch.note("warning", f"No training prompt holds {batches.name!r}: nothing can be learned. Choose a template with [name].")
    elif holding < all_:
        watch.note("warning", f"Only {holding} of {all_} training prompts hold {batches.name!r}; the others teach it nothing.")
    count = len(pictures.train)
    if pictures.epoch_images > count:
        watch.note("log", repeats_sentence([sample.repeats for sample in pictures.train], watch.course.config))
    if count == 1:
        watch.note("warning", "There is one picture only: its background and pose will be learned too. Add more where you can.")
    elif len({sample.key for sample in pictures.train}) == 1:
        watch.note("warning", f"All {count} pictures are the same one: its background and pose will be learned too. Add others where you can.")
