"""The pictures of a training: read once, encoded once, kept on disk by content."""

from hashlib import sha256
from pathlib import Path

from torch import Tensor

from studio.dataset.batches import LatentStore, Sample
from studio.dataset.folder import read_folder
from studio.diffusion.model import Model
from studio.errors import InputError, Unreadable
from studio.jobs import Lane
from studio.requests.train import TextualInversionConfig
from studio.settings import Paths
from studio.training.run import Run


def size_of(config: TextualInversionConfig, model: Model) -> tuple[int, int]:
    """Width and height in pixels; what the checkpoint was made for where the config says 0."""
    return config.width or model.native_size, config.height or model.native_size


def latent_store(config: TextualInversionConfig, paths: Paths, model: Model) -> LatentStore:
    """Where this model's encoded pictures lie; another autoencoder, precision or device has latents of its own."""
    width, height = size_of(config, model)
    mark = sha256(f"{model.dtype} {model.device.type}".encode())
    for parameter in model.vae.parameters():
        mark.update(parameter.detach().flatten()[:64].float().cpu().numpy().tobytes())
    return LatentStore(paths.latents, model.encode_images, mark.hexdigest(), width, height)


def samples_of(folder: Run, store: LatentStore, data: Path, lane: Lane) -> tuple[Sample, ...]:
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
