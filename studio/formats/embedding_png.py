"""A shared picture of an embedding: a painted picture, or a plain card, with the embedding in its pixels and in a text chunk."""

from pathlib import Path

from PIL import Image, ImageDraw, UnidentifiedImageError

from studio.errors import Unreadable
from studio.files import atomic_write
from studio.formats.embedding import Embedding, embed_in_png
from studio.formats.infotext import png_info
from studio.formats.opening import open_limited

SIDE = 512
"""Edge of a card in pixels."""
_LARGEST = 2**26
"""Pixels of the largest picture that is widened."""


def write_picture(path: Path, embedding: Embedding, picture: Path | None = None) -> None:
    """Write a PNG that carries an embedding, over a painted picture or a plain card; a picture's infotext stays.

    Raises InputError for vectors that are not finite, Unreadable for what is no picture.
    """
    image, text = (_card(embedding), "") if picture is None else _opened(picture)
    whole, info = embed_in_png(image, embedding, png_info(text) if text else None)
    with atomic_write(path) as temporary:
        whole.save(temporary, format="PNG", pnginfo=info)


def _opened(picture: Path) -> tuple[Image.Image, str]:
    """A picture's pixels and the infotext in it."""
    try:
        with open_limited(picture) as image:
            if image.width * image.height > _LARGEST:
                raise Unreadable(f"{picture.name} has {image.width}x{image.height} pixels, too many to carry an embedding.", "Choose a smaller picture.")
            text = image.info.get("parameters")
            return image.convert("RGB"), text if isinstance(text, str) else ""
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Unreadable(f"{picture.name} is not a picture that can be read ({type(error).__name__}).", "Choose another one.") from error


def _card(embedding: Embedding) -> Image.Image:
    """A plain picture that says what it carries, as A1111 letters its own: name above; checkpoint, its hash, and vectors with steps below."""
    image = Image.new("RGB", (SIDE, SIDE), (38, 50, 56))
    pen = ImageDraw.Draw(image)
    for row in range(SIDE):
        pen.line((0, row, SIDE, row), fill=(30 + row * 20 // SIDE, 60 + row * 50 // SIDE, 64 + row * 50 // SIDE))
    footer = "    ".join(filter(None, (embedding.checkpoint_name, f"[{embedding.checkpoint_hash}]" if embedding.checkpoint_hash else "", f"{len(embedding.vectors)}v {embedding.step or 0}s")))
    pen.text((24, 24), f"<{_latin(embedding.name)[:24]}>", fill=(240, 248, 248), font_size=36)
    pen.text((24, SIDE - 48), _latin(footer)[:52], fill=(240, 248, 248), font_size=18)
    return image


def _latin(text: str) -> str:
    """A text in letters that Pillow's own font knows; the others as question marks."""
    return text.encode("latin-1", "replace").decode("latin-1")
