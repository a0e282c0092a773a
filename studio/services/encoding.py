"""The pictures of a training: read once, encoded once, kept on disk by content, and noted so that a run that goes on does not need their folder."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from studio.dataset.buckets import bucket_sizes
from studio.dataset.folder import caption_in, divided
from studio.dataset.latents import Encoder, LatentStore, Sample
from studio.dataset.loss_masks import is_black, mask_of, packed, unpacked, weights
from studio.dataset.masks import header
from studio.diffusion.model import Model
from studio.errors import InputError, Unreadable
from studio.jobs import Lane
from studio.projects.cropping import nearest_bucket
from studio.projects.facts import Size
from studio.projects.text_encodings import legacy_encoding
from studio.projects.training_images import repeats_of, training_images
from studio.requests.train import TrainConfig
from studio.settings import Paths
from studio.training.run import Run

AT_ONCE = 4 * 512 * 512
"""Pixels that visit the autoencoder of a graphics card together: four pictures of 512 by 512."""
TELL_SECONDS = 0.25
"""Least time between two tellings of how far the encoding is."""
FEW = 8
"""Fewer pictures than this are measured on their mirror images."""
SHOWN = 5
"""File names that one warning spells out."""


@dataclass(frozen=True)
class Pictures:
    """What a run learns from, and what it is measured on and never learns."""

    train: tuple[Sample, ...]
    held: tuple[Sample, ...] = ()

    @property
    def epoch_images(self) -> int:
        """Images of one epoch: each picture to learn from counts as often as its repeats say."""
        return sum(sample.repeats for sample in self.train)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the keys, captions, repeats and weights of all pictures in order: the same for the same data set at the same size and model."""
        mark = sha256()
        for part, samples in ((b"train", self.train), (b"held", self.held)):
            mark.update(part)
            for sample in samples:
                mark.update(f"{sample.key}\0{len(sample.caption)}\0{sample.caption}\0".encode("utf-8", "surrogatepass"))
                mark.update(b"" if sample.repeats == 1 else f"{sample.repeats}\0".encode())
                mark.update(b"" if sample.weight is None else sample.weight.numpy().tobytes())
        return mark.hexdigest()


@dataclass(frozen=True)
class Entry:
    """What data.json says of a picture: its latent's key, its caption, its file's name and SHA-256, the pixels it was cut to, the key of its mirror image, its mask, whether held out, repeats."""

    key: str
    caption: str
    name: str = ""
    digest: str = ""
    size: Sequence[int] = ()
    mirrored: str = ""
    mask: str = ""
    held: bool = False
    repeats: int = 1

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Entry":
        """Back from the file, also from one with fewer or more facts."""
        return cls(**{name: value for name, value in values.items() if name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Look:
    """How the pictures of a folder are looked at; without bucket `sizes` all are cut to the store's own."""

    data: Path
    store: LatentStore
    sizes: tuple[Size, ...] = ()
    flip: bool = False
    masks: bool = False
    floor: float = 0.0

    def size(self, picture: Path) -> Size:
        """The pixels a picture is cut to; raises Unreadable."""
        return nearest_bucket(header(picture)[0], self.sizes) if self.sizes else (self.store.width, self.store.height)

    def entry(self, picture: Path, held: bool, repeats: int) -> Entry:
        """What is noted of a picture; raises Unreadable."""
        with _in_words(picture):
            data, caption = picture.read_bytes(), caption_in(self.data, picture)
        size = self.size(picture)
        greys = mask_of(picture, size) if self.masks else None
        key, mask = self.store.key(data, size), "" if greys is None else packed(greys)
        mirrored = self.store.key(data, size, mirrored=True) if self.flip and not held else ""
        return Entry(key, caption, picture.relative_to(self.data).as_posix(), sha256(data).hexdigest(), size, mirrored, mask, held, repeats)


def size_of(config: TrainConfig, model: Model) -> tuple[int, int]:
    """Width and height in pixels; what the checkpoint was made for where the config says 0."""
    return config.width or model.native_size, config.height or model.native_size


def latent_store(config: TrainConfig, paths: Paths, model: Model) -> LatentStore:
    """Where this model's encoded pictures lie; another autoencoder, precision or device has latents of its own."""
    width, height = size_of(config, model)
    mark = sha256(f"{model.dtype} {model.device.type}".encode())
    for parameter in model.vae.parameters():
        mark.update(parameter.detach().flatten()[:64].float().cpu().numpy().tobytes())
    return LatentStore(paths.latents, model.encode_images, mark.hexdigest(), width, height)


def pictures_of(config: TrainConfig, run: Run, model: Model, lane: Lane, paths: Paths) -> Pictures:
    """The pictures of a run, encoded once; those that cannot be read are told and left out, none at all raises InputError.

    A run that goes on uses what it began with, even when the folder has changed or gone since; a picture whose latent is lost and that is not there any more raises InputError.
    An ask to stop gives nothing.
    """
    sizes = bucket_sizes(*size_of(config, model)) if config.buckets else ()
    look = Look(Path(config.data), latent_store(config, paths, model), sizes, config.flip, config.use_masks, config.mask_floor)
    return _pictures(look, run, lane, 0 if model.device.type == "cpu" else AT_ONCE)


def _pictures(look: Look, run: Run, lane: Lane, area: int) -> Pictures:
    """The pictures that were noted, else those of the folder, which are noted then."""
    encoder = Encoder(look.store, area)
    noted = [Entry.of(values) for values in run.noted("data") or []]
    if noted:
        _recover(noted, look, encoder)
        return _sampled(noted, look, encoder)
    entries = _read(look, lane, encoder)
    if not entries:
        return Pictures(())
    _tell(entries, look, lane)
    run.note("data", [asdict(entry) for entry in entries])
    return _sampled(entries, look, encoder)


def _read(look: Look, lane: Lane, encoder: Encoder) -> list[Entry]:
    """Encode all pictures of the folder; nothing when a stop is asked. Raises InputError when none can be learned.

    Few pictures of which none is held out are encoded mirrored too: what is never learned is what the probe is measured on.
    """
    learned, held = divided(look.data)
    if not held and len(learned) < FEW:
        look = replace(look, flip=True)
    repeats = repeats_of([*learned, *held])
    entries, problems, told = [], 0, 0.0
    for number, path in enumerate([*learned, *held]):
        if lane.stopping():
            return []
        if time.monotonic() - told > TELL_SECONDS:
            told = time.monotonic()
            total = len(learned) + len(held)
            lane.emit("progress", step=number, total=total, rate=0.0, eta=None, text=f"Encoding picture {number + 1} of {total}")
        try:
            entry = look.entry(path, number >= len(learned), repeats[path])
            _want(entry, path, look, encoder)
            entries.append(entry)
        except Unreadable as error:
            problems += 1
            lane.emit("warning", text=f"{path.name} was left out: {error}", path=str(path))
    encoder.flush()
    if all(entry.held for entry in entries):
        raise InputError(f"Dataset directory: none of the {problems} files in {str(look.data)!r} is a picture that can be read.", "Prepare pictures first.")
    return entries


def _want(entry: Entry, picture: Path, look: Look, encoder: Encoder) -> None:
    """Have a picture encoded, and its mirror image where that is wanted; raises Unreadable."""
    width, height = entry.size or (look.store.width, look.store.height)
    encoder.want(entry.key, picture, (width, height))
    if entry.mirrored:
        encoder.want(entry.mirrored, picture, (width, height), mirrored=True)


def _recover(entries: Sequence[Entry], look: Look, encoder: Encoder) -> None:
    """Fetch the latents of what was noted; one that is lost is encoded again from the very same picture. Raises InputError when that is gone."""
    for entry in entries:
        lost = False
        for key in filter(None, (entry.key, entry.mirrored)):
            kept = look.store.find(key)
            lost = lost or kept is None
            if kept is not None:
                encoder.made[key] = kept
        if lost:
            _want(entry, _same(entry, look), look, encoder)
    encoder.flush()


def _same(entry: Entry, look: Look) -> Path:
    """The picture of an entry as it is in the folder now, under whatever name; raises InputError."""
    for path in sorted(training_images(look.data), key=lambda path: path.name != Path(entry.name).name):
        with _in_words(path):
            data = path.read_bytes()
        if sha256(data).hexdigest() == entry.digest or look.store.key(data) == entry.key:
            return path
    raise InputError(
        f"Dataset directory: {entry.name or 'a picture'}, which this run began with, is not in {str(look.data)!r} any more, and what was encoded of it is gone too.",
        "Put the picture back as it was, or begin a new run.",
    )


@contextmanager
def _in_words(picture: Path) -> Iterator[None]:
    """Say as Unreadable why a picture, its mask or its caption cannot be opened."""
    try:
        yield
    except OSError as error:
        raise Unreadable(f"{picture.name} cannot be opened ({error.strerror}).", "Check that it is still there, and who may read it.") from error


def _sampled(entries: Iterable[Entry], look: Look, encoder: Encoder) -> Pictures:
    """Entries and their latents as samples."""
    samples = [(entry.held, _sample(entry, look, encoder)) for entry in entries]
    return Pictures(tuple(sample for held, sample in samples if not held), tuple(sample for held, sample in samples if held))


def _sample(entry: Entry, look: Look, encoder: Encoder) -> Sample:
    """One picture to learn from or to measure on."""
    mean, std = encoder.made[entry.key]
    sample = Sample(entry.key, entry.caption, mean, std, encoder.made.get(entry.mirrored), None, entry.name, entry.repeats)
    if not (look.masks and entry.mask):
        return sample
    return replace(sample, weight=weights(unpacked(entry.mask, sample.size), look.floor))


def _tell(entries: Sequence[Entry], look: Look, lane: Lane) -> None:
    """Say what became of captions, shapes and masks."""
    encoding = next(filter(None, map(legacy_encoding, {image.parent for image in training_images(look.data)})), "")
    if encoding:
        text = f"Some captions aren't Unicode and were read as {encoding}, such as {entries[0].caption[:60]!r}."
        lane.emit("warning", text=f"{text} If that is wrong, stop, and choose the encoding under Check in the dataset.")
    if look.sizes:
        counts = Counter((entry.size[0], entry.size[1]) for entry in entries if not entry.held)
        lane.emit("log", text=f"Aspect buckets: {', '.join(f'{width}x{height}: {count}' for (width, height), count in sorted(counts.items()))}.")
    if not look.masks:
        return
    black = [entry.name for entry in entries if entry.mask and is_black(unpacked(entry.mask, (entry.size[0], entry.size[1])))]
    if black:
        names = ", ".join(black[:SHOWN]) + (f" and {len(black) - SHOWN} more" if len(black) > SHOWN else "")
        lane.emit("warning", text=f"The mask is all black and would leave nothing to learn: {names}. The whole picture counts instead; paint the mask again, or leave the picture out.")
    if not any(entry.mask for entry in entries):
        lane.emit("warning", text="No picture has a mask, so every part of each counts alike. Put -masklabel.png files beside the pictures, or paint masks in the data set room.")
