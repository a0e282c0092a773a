"""Training as a job: check, open the run, lend the model, encode the pictures, learn, and put the result on the shelf."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studio import shelves
from studio.dataset.batches import Batches, LatentStore, Sample, read_template
from studio.dataset.folder import read_folder
from studio.diffusion.model import Model
from studio.errors import InputError, StudioError, Unreadable
from studio.files import atomic_write
from studio.formats.embedding import read_embedding
from studio.formats.infotext import png_info
from studio.jobs import Lane
from studio.requests.generate import GenerateRequest
from studio.requests.train import TextualInversionConfig, TrainRequest
from studio.services.desk import Desk
from studio.services.gallery import infotext
from studio.services.generation import paint
from studio.services.library import find_embedding
from studio.settings import Paths
from studio.training.loop import Plan, train
from studio.training.methods import method_of
from studio.training.methods.trainable import Trainable
from studio.training.optim import Schedule, adamw, restore_optimizer
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
        samples = _samples(folder, _store(config, paths, model), Path(config.data), lane)
        if not samples:
            return {"embedding": str(shelf), "run": str(folder.folder), "steps": tally.first, "stopped": True}
        plan = _plan(config, folder, model, samples, (schedule, shelf.stem, desk))
        if kept is None:
            _describe(folder, request, model, tally.first)
            _warn_unnamed(plan.batches, lane)
        optimizer = adamw(learner.parameters(), schedule.at(tally.first))
        rhythm = Rhythm(schedule.end, config.save_every, config.preview_every)
        painter = Painter(_preview(config, model, shelf.stem), model, learner, plan.others, folder.samples)
        watch = Watch(folder, lane, learner, optimizer, rhythm, shelf, painter, tally, step=tally.first)
        if kept is not None:
            _take_up(kept, watch)
        with _shown(desk, learner):
            watch.begin(resumed=kept is not None)
            finished = train(model, learner, optimizer, plan, watch)
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


def check(config: TextualInversionConfig, paths: Paths) -> None:
    """Raise InputError naming everything that keeps this training from starting; needs no model."""
    wrong: list[str] = []
    first = 0
    try:
        first = read_embedding(find_embedding(paths, config.embedding)).step or 0
    except StudioError as error:
        wrong.append(str(error))
    if first >= config.steps:
        wrong.append(f"Max steps: {config.embedding!r} has been trained to step {first} already, and Max steps is {config.steps}; enter a number above {first}.")
    else:
        try:
            Schedule.parse(config.learn_rate, config.steps, first)
        except StudioError as error:
            wrong.append(str(error))
    folder = Path(config.data)
    if not folder.is_dir():
        wrong.append(f"Dataset directory: {config.data!r} is not a folder; prepare pictures first.")
    elif not shelves.images(folder):
        wrong.append(f"Dataset directory: there is no picture in {config.data!r}; prepare pictures first.")
    try:
        read_template(_template(config, paths))
    except StudioError as error:
        wrong.append(str(error))
    if wrong:
        raise InputError(" ".join(wrong))


class Painter:
    """Previews: the same path as every other picture, with the live words and a fixed seed."""

    def __init__(self, request: GenerateRequest, model: Model, learner: Trainable, others: Mapping[str, Tensor], folder: Path) -> None:
        self.request, self.model, self.learner, self.others, self.folder = request, model, learner, others, folder

    def __call__(self, step: int) -> tuple[Path, str]:
        """Paint samples/<step>.png and return its path and prompt."""
        words = {**self.others, **{name: vectors.detach() for name, vectors in self.learner.words().items()}}
        path = self.folder / f"{step:06d}.png"
        with torch.no_grad():
            picture = paint(self.model, self.request, words)[0]
        text = infotext(self.model, self.request)
        with atomic_write(path) as temporary:
            picture.save(temporary, format="PNG", pnginfo=png_info(text))
        return path, self.request.prompt


def _preview(config: TextualInversionConfig, model: Model, name: str) -> GenerateRequest:
    """What a preview paints."""
    width, height = size_of(config, model)
    return GenerateRequest(
        prompt=(config.preview_prompt or "a photo of [name]").replace("[name]", name),
        negative_prompt=config.preview_negative_prompt.replace("[name]", name),
        checkpoint=config.checkpoint,
        sampler=config.preview_sampler,
        steps=config.preview_steps,
        cfg_scale=config.preview_cfg_scale,
        seed=config.preview_seed,
        width=width,
        height=height,
        clip_skip=config.clip_skip,
        preview_every=0,
    )


def size_of(config: TextualInversionConfig, model: Model) -> tuple[int, int]:
    """Width and height in pixels; what the checkpoint was made for where the config says 0."""
    return config.width or model.native_size, config.height or model.native_size


def _store(config: TextualInversionConfig, paths: Paths, model: Model) -> LatentStore:
    """Where this model's encoded pictures lie; another autoencoder, precision or device has latents of its own."""
    width, height = size_of(config, model)
    mark = sha256(f"{model.dtype} {model.device.type}".encode())
    for parameter in model.vae.parameters():
        mark.update(parameter.detach().flatten()[:64].float().cpu().numpy().tobytes())
    return LatentStore(paths.latents, model.encode_images, mark.hexdigest(), width, height)


def _samples(folder: Run, store: LatentStore, data: Path, lane: Lane) -> tuple[Sample, ...]:
    """The pictures of the run, encoded once; those that cannot be read are told and left out, none at all raises InputError.

    A run that goes on uses what it began with, even when the folder has changed or gone since; an ask to stop gives nothing.
    """
    noted = folder.noted("data") or []
    found = [(entry, store.find(entry["key"])) for entry in noted]
    if found and all(latent is not None for _, latent in found):
        return tuple(Sample(entry["key"], entry["caption"], *latent) for entry, latent in found if latent is not None)
    items, problems = read_folder(data)
    samples: list[Sample] = []
    for number, item in enumerate(items):
        if lane.stopping():
            return ()
        lane.emit("progress", step=number, total=len(items), rate=0.0, eta=None, text=f"Encoding picture {number + 1} of {len(items)}")
        try:
            samples.append(Sample(*_with_caption(store.get(item.image), item.caption)))
        except Unreadable as error:
            problems.append((item.image, str(error)))
    for path, reason in problems:
        lane.emit("warning", text=f"{Path(path).name} was left out: {reason}", path=str(path))
    if not samples:
        raise InputError(f"Dataset directory: none of the {len(problems)} files in {str(data)!r} is a picture that can be read.", "Prepare pictures first.")
    folder.note("data", [{"key": s.key, "caption": s.caption} for s in samples])
    return tuple(samples)


def _with_caption(encoded: tuple[str, Tensor, Tensor], caption: str) -> tuple[str, str, Tensor, Tensor]:
    """The parts of a Sample in order."""
    key, mean, std = encoded
    return key, caption, mean, std


def _plan(config: TextualInversionConfig, folder: Run, model: Model, samples: tuple[Sample, ...], rest: tuple[Schedule, str, Desk]) -> Plan:
    """What each step does; the template's lines are noted, so that editing the file does not change a run that goes on."""
    schedule, name, desk = rest
    lines = tuple(folder.noted("template") or ())
    if not lines:
        lines = read_template(_template(config, desk.paths))
        folder.note("template", lines)
    batches = Batches(samples, lines, name, config.batch_size, config.seed, config.gradient_accumulation, config.shuffle_tags, config.drop_out_tags, config.latent_sampling)
    text = "\n".join([*lines, *(s.caption for s in samples), config.preview_prompt, config.preview_negative_prompt])
    others = {word: vectors.to(model.device) for word, vectors in desk.words(text).items() if word != name}
    return Plan(batches, schedule, config.min_snr_gamma, config.clip_skip, others)


def _template(config: TextualInversionConfig, paths: Paths) -> Path:
    """The file of the prompt template; raises InputError."""
    path = shelves.template_file(paths, config.template)
    if path is None:
        raise InputError(f"Prompt template: there is no {config.template!r}; choose one of {', '.join(shelves.templates(paths)) or 'none'}.")
    return path


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
