"""Forecast: a few steps, a preview and a measurement that change nothing tell what a whole training will take on this machine, and what speaks against it."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from studio.dataset.batches import Batches, Sample, read_template
from studio.dataset.buckets import bucket_sizes
from studio.dataset.folder import Item, caption_in, divided
from studio.dataset.masks import header
from studio.diffusion.model import Model
from studio.errors import InputError, StudioError
from studio.jobs import Lane
from studio.projects.cropping import nearest_bucket
from studio.projects.facts import Size
from studio.projects.training_images import repeats_of
from studio.requests import forecast as say
from studio.requests.forecast import ForecastRequest
from studio.requests.train import PriorConfig, TrainConfig
from studio.services.desk import Desk
from studio.services.dry_steps import Dry, Peak, Scene, encoding_seconds, previews_seconds, probe_seconds, take
from studio.services.encoding import latent_store, size_of
from studio.services.forecast_problems import Material, by_weight, problem, problems, prompts
from studio.services.training import planned, refuse_contradictions, varied, word_of
from studio.services.training_checks import mistakes, template_of
from studio.training.loop import Plan
from studio.training.methods import method_of
from studio.training.methods.trainable import Trainable
from studio.training.optim import Schedule, build
from studio.training.passes import Prior

SHOWN = 5
"""Final prompts that are told."""
MARGIN = 1.5
"""The disk should have this many times what the training writes."""
NOTHING: dict[str, Any] = {
    "steps": 0,
    "epochs": 0.0,
    "pictures": 0,
    "epoch_images": 0,
    "epoch_steps": 0,
    "seconds_per_step": 0.0,
    "seconds": None,
    "parts": {},
    "preview_share": 0.0,
    "memory": 0,
    "memory_added": 0,
    "memory_total": 0,
    "disk": 0,
    "disk_free": 0,
    "prompt_count": 0,
    "prompts": [],
}
"""What a forecast says where nothing could be measured; times in seconds, memory and disk in bytes, the share from 0 to 1."""


@dataclass(frozen=True)
class Ahead:
    """What a training would begin with: its schedule, the step it begins at, its material, and pictures it is measured on and never learns."""

    schedule: Schedule
    first: int
    material: Material
    held: list[Item]

    @property
    def steps(self) -> int:
        """Steps to take."""
        return self.schedule.end - self.first


def run(request: ForecastRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """What the training would take, with its final prompts and all that speaks against it; measures nothing where it could not start."""
    config, paths = request.config, desk.paths
    wrong = mistakes(config, paths, desk.cache.device.type)
    found = [problem(say.MISTAKE, mistake=mistake) for mistake in wrong]
    result: dict[str, Any] = {**NOTHING, "problems": found, "stopped": False}
    if not wrong:
        with desk.cache.lend(config.checkpoint, private=method_of(request.method).private(config)) as model:
            try:
                result |= _forecast(request, lane, (desk, model))
            except InputError as error:
                result["problems"] = [problem(say.MISTAKE, mistake=str(error))]
    lane.emit("forecast", **result)
    return result


def _forecast(request: ForecastRequest, lane: Lane, rest: tuple[Desk, Model]) -> dict[str, Any]:
    """The forecast with a model; raises InputError where what learns or the pictures do not fit."""
    config, (desk, model) = request.config, rest
    method = method_of(request.method)
    start = method.start(desk.paths, config)
    learner = method.attach(model, start, config)
    refuse_contradictions(learner)
    ahead = _ahead(config, learner, method.first(start) if start else 0, desk)
    found = problems(config, ahead.material, model.device.type)
    plan = _plan(config, model, ahead, (learner, desk))
    optimizer = build(config.optimizer, [list(group.parameters) for group in learner.groups()], ahead.schedule.at(ahead.first))
    scene = Scene(config, model, learner, optimizer, plan, lane)
    lane.emit("progress", step=0, total=ahead.steps, rate=0.0, eta=None, text="Measuring some steps")
    with Peak(model.device) as peak:
        dry = take(scene, ahead.schedule.at(ahead.first))
        parts = _parts(scene, dry, ahead, desk)
    disk, free = _disk(config, learner, ahead, desk)
    if free < MARGIN * disk:
        found = by_weight([*found, problem(say.SPACE, free=round(free / 2**30, 1), needed=round(disk / 2**30, 1))])
    return {**_figures(config, dry, ahead, parts), **peak.figures(), "disk": disk, "disk_free": free, **_prompts(ahead.material), "problems": found, "stopped": lane.stopping()}


def _ahead(config: TrainConfig, learner: Trainable, first: int, desk: Desk) -> Ahead:
    """What the training would begin with; raises InputError."""
    schedule = Schedule.parse(config.learn_rate, config.steps, first, config.rate_shape, config.warmup)
    unread: list[str] = []
    folder = Path(config.data)
    items, held = (_items(folder, paths, unread) for paths in divided(folder))
    if not items:
        raise InputError(f"Dataset directory: none of the {len(unread)} files in {config.data!r} is a picture that can be read.", "Prepare pictures first.")
    lines = read_template(template_of(config, desk.paths))
    vectors = sum(len(vectors) for vectors in learner.words().values())
    return Ahead(schedule, first, Material(word_of(config, learner), vectors, items, unread, lines, schedule.end - first), held)


def _items(folder: Path, paths: Sequence[Path], unread: list[str]) -> list[Item]:
    """Pictures of a folder with captions and repeats, by what their files begin with; reasons why others cannot be read go to `unread`."""
    items, repeats = [], repeats_of(paths)
    for path in paths:
        try:
            header(path)
            items.append(Item(path, caption_in(folder, path), repeats[path]))
        except StudioError as error:
            unread.append(str(error))
    return items


def sizes_of(config: TrainConfig, model: Model, items: Sequence[Item]) -> list[Size]:
    """The pixels each picture would be cut to."""
    size = size_of(config, model)
    if not config.buckets:
        return [size] * len(items)
    sizes = bucket_sizes(*size)
    return [nearest_bucket(header(item.image)[0], sizes) for item in items]


def _plan(config: TrainConfig, model: Model, ahead: Ahead, rest: tuple[Trainable, Desk]) -> Plan:
    """What each step would do, with noise of the right shape in the place of pictures: a step takes the same time for both."""
    material = ahead.material
    sizes = sizes_of(config, model, material.items)
    latents = {size: torch.randn(model.vae.config.latent_channels, size[1] // model.scale, size[0] // model.scale) for size in set(sizes)}
    weights = {size: torch.ones(latents[size].shape[1:]) if config.use_masks else None for size in latents}
    samples = tuple(
        Sample(f"{number}", item.caption, latents[size], torch.ones_like(latents[size]), (latents[size], torch.ones_like(latents[size])) if config.flip else None, weights[size], "", item.repeats)
        for number, (item, size) in enumerate(zip(material.items, sizes, strict=True))
    )
    plan = planned(config, model, Batches(samples, tuple(material.lines), material.name, config.batch_size, config.seed, config.gradient_accumulation, *varied(config)), rest)
    if not isinstance(config, PriorConfig) or config.prior == "none":
        return plan
    asked = config.prior == "prediction" and not method_of(config.method).private(config)  # a private model would have to be lent once more
    return replace(plan, prior=Prior(plan.batches, config.prior_loss_weight, asked))


def _parts(scene: Scene, dry: Dry, ahead: Ahead, desk: Desk) -> dict[str, float]:
    """Seconds of everything the training does; previews, measurements and encoding where they are wanted."""
    config, first, end = scene.config, ahead.first, ahead.schedule.end
    rows = 1 + end // config.preview_every - first // config.preview_every if config.preview_every else 0
    parts = {"steps": dry.seconds_per_step * ahead.steps, "starting": dry.extra}
    parts["previews"] = rows * previews_seconds(scene, desk) if rows and not scene.lane.stopping() else 0.0
    parts["probe"] = probe_seconds(scene, first, end, len(ahead.held)) if not scene.lane.stopping() else 0.0
    missing = _missing(scene, ahead, desk)
    parts["encoding"] = missing[0] * encoding_seconds(scene.model, missing[1]) if missing else 0.0
    return {name: round(seconds, 4) for name, seconds in parts.items()}


def _missing(scene: Scene, ahead: Ahead, desk: Desk) -> tuple[int, list[tuple[Path, Size]]] | None:
    """How many latents are not kept on disk yet, and the first pictures of those with their pixels; None when all are."""
    store = latent_store(scene.config, desk.paths, scene.model)
    items = [*ahead.material.items, *ahead.held]
    lost: list[tuple[Path, Size]] = []
    for number, (item, size) in enumerate(zip(items, sizes_of(scene.config, scene.model, items), strict=True)):
        data, both = item.image.read_bytes(), scene.config.flip and number < len(ahead.material.items)
        lost += [(item.image, size) for mirrored in (False, True)[: 1 + both] if store.find(store.key(data, size, mirrored)) is None]
    return (len(lost), lost[:2]) if lost else None


def _figures(config: TrainConfig, dry: Dry, ahead: Ahead, parts: dict[str, float]) -> dict[str, Any]:
    """Steps, epochs (in which each picture counts as often as its repeats say) and times."""
    seconds = sum(parts.values())
    images = sum(item.repeats for item in ahead.material.items)
    return {
        "steps": ahead.steps,
        "epochs": ahead.steps * config.images_per_step / images,
        "pictures": len(ahead.material.items),
        "epoch_images": images,
        "epoch_steps": config.steps_per_epoch(images),
        "seconds_per_step": dry.seconds_per_step,
        "seconds": round(seconds, 2),
        "parts": parts,
        "preview_share": round(parts["previews"] / seconds, 4) if seconds else 0.0,
    }


def _disk(config: TrainConfig, learner: Trainable, ahead: Ahead, desk: Desk) -> tuple[int, int]:
    """Bytes the training writes, and bytes that are free: three checkpoints of three times what learns, a copy for each row of previews and each saved one, pictures, and a line for each step."""
    vectors = sum(parameter.numel() * 4 for parameter in learner.parameters())
    rows = ahead.steps // config.preview_every + 1 if config.preview_every else 0
    copies = ahead.steps // config.save_every if config.save_every else 0
    prompts_ = max(1, len([line for line in config.preview_prompt.splitlines() if line.strip()]))
    side = (config.width or 512) * (config.height or 512)
    need = 3 * 3 * vectors + (copies + rows * learner.copies + 2) * (vectors + 2000) + rows * prompts_ * config.preview_images * side * 2 + 120 * ahead.steps + len(ahead.material.items) * side // 2
    return int(need), shutil.disk_usage(desk.paths.outputs if desk.paths.outputs.is_dir() else tempfile.gettempdir()).free


def _prompts(material: Material) -> dict[str, Any]:
    """How many different prompts there are, and the first of them with their tokens."""
    every = prompts(material)
    return {"prompt_count": len(every), "prompts": [{"prompt": one.text, "tokens": one.count, "warnings": list(one.warnings)} for one in every[:SHOWN]]}
