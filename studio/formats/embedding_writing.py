"""An embedding in the layout that another program wants: A1111's .pt, .safetensors, a picture that carries it, or diffusers' files."""

from pathlib import Path
from typing import Literal

from safetensors.torch import save_file

from studio.embedding_shelf import WIDTHS
from studio.errors import InputError
from studio.files import atomic_write
from studio.formats.embedding import Embedding, stored, write_embedding
from studio.formats.embedding_png import write_picture

Layout = Literal["pt", "safetensors", "png", "diffusers"]


def default_suffix(encoders: int) -> str:
    """How the file of a new embedding ends: A1111's .pt for one text encoder, .safetensors with clip_l and clip_g for two."""
    return ".pt" if encoders == 1 else ".safetensors"


def check_family(embedding: Embedding, family: str) -> None:
    """Raise InputError when an embedding is wanted for another family than the one its vectors are for: no scaling makes a word of one encoder a word of another."""
    own = WIDTHS.get(embedding.width)
    if family and family != own:
        raise InputError(
            f"{embedding.name!r} has vectors of width {embedding.width}{f', which are for {own}' if own else ''}; they cannot be scaled to {family}.",
            f"A text encoder of {family} knows no such vectors; train the same pictures on a {family} checkpoint instead.",
        )


def write_layout(folder: Path, embedding: Embedding, layout: Layout, picture: Path | None = None) -> list[Path]:
    """Write an embedding into a folder in one layout and return the files: <name>.pt, .safetensors or .png, or <name>/learned_embeds.safetensors (and _2 for SDXL) for diffusers.

    `picture` is what a PNG shows. Raises InputError for vectors that are not finite, and Unreadable for a picture that is none; what stood there is replaced.
    """
    if layout == "diffusers":
        return write_diffusers(folder / embedding.name, embedding)
    path = folder / f"{embedding.name}.{layout}"
    if layout == "png":
        write_picture(path, embedding, picture)
    else:
        write_embedding(path, embedding)
    return [path]


def write_diffusers(folder: Path, embedding: Embedding) -> list[Path]:
    """Write `learned_embeds.safetensors` with one tensor called `<name>`, and for SDXL `learned_embeds_2.safetensors` for its second encoder; `load_textual_inversion` reads each."""
    written = []
    for number, tensor in enumerate(stored(embedding).values(), 1):
        path = folder / f"learned_embeds{'' if number == 1 else f'_{number}'}.safetensors"
        with atomic_write(path) as temporary:
            save_file({f"<{embedding.name}>": tensor}, temporary)
        written.append(path)
    return written
