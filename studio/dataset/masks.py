"""Masks of a data set: white is where to learn, black is left out; read from beside the picture or from its own alpha, mended, written."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from studio import shelves
from studio.dataset.folder import ALPHA_MODES, open_turned
from studio.errors import NotFound, StudioError, Unreadable
from studio.formats.opening import open_limited

WIDE = ("I;16", "I;16L", "I;16B", "I;16N", "I")
"""Modes of masks whose white is 65535."""
ORIENTATION = 0x0112
"""The EXIF tag that says how a picture is turned; from 5 on width and height are exchanged."""


def mask_file(picture: Path) -> Path:
    """Where the mask of a picture lies."""
    return picture.with_name(picture.stem + shelves.MASK_SUFFIX)


def read_mask(picture: Path) -> Image.Image | None:
    """The mask of a picture as greys of its upright size: the file beside it, else its own alpha where that is used; None without either. Raises Unreadable."""
    file = mask_file(picture)
    if file.is_file():
        size, turn = header(picture)
        return fitted(_turned(_grey(open_turned(file)), size, turn), size)
    return alpha_of(open_turned(picture)) if _may_be_clear(picture) else None


def header(picture: Path) -> tuple[tuple[int, int], int]:
    """Upright size and EXIF orientation (1 to 8) of a picture, from its header alone; raises Unreadable."""
    try:
        with open_limited(picture) as image:
            turn = int(image.getexif().get(ORIENTATION, 1) or 1)
            return (image.size[::-1] if turn >= 5 else image.size), turn
    except (OSError, RuntimeError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError) as error:
        raise Unreadable(f"{picture.name} is not a picture that can be read ({str(error)[:100]}).", "Get it again.") from error


def alpha_of(image: Image.Image) -> Image.Image | None:
    """The alpha of a picture as greys; None when it has none or all of it is the same."""
    if image.mode not in ALPHA_MODES and "transparency" not in image.info:
        return None
    alpha = image.convert("RGBA").getchannel("A")
    low, high = alpha.getextrema()
    return alpha if low < high else None


def fitted(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A mask at another size; area averages when it shrinks, so that thin strokes fade and are not lost."""
    if mask.size == size:
        return mask
    return mask.resize(size, Image.Resampling.BOX if mask.width >= size[0] and mask.height >= size[1] else Image.Resampling.BILINEAR)


def mask_png(mask: Image.Image) -> bytes:
    """A mask as the bytes of a PNG, the same bytes for the same greys."""
    plain, stream = Image.fromarray(np.asarray(mask.convert("L"))), io.BytesIO()
    plain.save(stream, "PNG", compress_level=6)
    return stream.getvalue()


def trouble(picture: Path) -> str:
    """What is wrong with the mask of a picture, in a sentence; empty when there is none or it is fine."""
    file = mask_file(picture)
    if not picture.is_file():
        return str(NotFound(f"There is no picture {picture.name!r} for the mask {file.name}.", "Put the picture back, or delete the mask.")) if file.is_file() else ""
    try:
        return _of_file(file, picture) if file.is_file() else _of_alpha(picture)
    except StudioError as error:
        return str(error)


def refine(mask: Image.Image, grow: int = 0, feather: float = 0, fill: bool = False) -> Image.Image:
    """A mask with its holes filled, then grown (shrunk when negative) by pixels, then with an edge softened over `feather` pixels to each side."""
    greys = np.asarray(mask.convert("L"))
    if fill:
        greys = filled(greys)
    if grow:
        greys = _grown(greys, grow)
    if feather > 0:
        greys = cv2.GaussianBlur(greys, (0, 0), feather / 2, borderType=cv2.BORDER_REPLICATE)
    return Image.fromarray(greys)


def filled(greys: np.ndarray) -> np.ndarray:
    """Greys [h, w] in which what is dark but shut in by light is white, its soft rim too."""
    dark = (greys < 128).astype(np.uint8)
    _, labels = cv2.connectedComponents(dark, connectivity=4)
    outside = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    holes = (dark > 0) & ~np.isin(labels, outside)
    if not holes.any():
        return greys
    rims = (cv2.dilate(holes.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0) & (dark == 0)
    return np.where(holes | rims, np.uint8(255), greys)


def _grown(greys: np.ndarray, pixels: int) -> np.ndarray:
    """Greys whose light part reaches `pixels` farther in every direction (less far when negative), with an edge one pixel soft; the picture's own border does not eat into it."""
    inside = greys >= 128
    if inside.all() or not inside.any():
        return greys
    source = ~inside if pixels > 0 else inside
    distance = cv2.distanceTransform(source.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    ramp = np.clip(np.where(source, distance, 0) - abs(pixels), 0, 1)
    if pixels > 0:
        return np.maximum(greys, np.rint(255 * (1 - ramp)).astype(np.uint8))
    return np.minimum(greys, np.rint(255 * ramp).astype(np.uint8))


def _grey(image: Image.Image) -> Image.Image:
    """A mask of any mode as greys: what is transparent is black, 16 bits become 8, and labels 0 and 1 become black and white."""
    if image.mode in WIDE:
        wide = np.asarray(image).astype(np.int64)
        greys = np.clip((wide + 128) // 257, 0, 255).astype(np.uint8) if wide.max(initial=0) > 255 else wide.clip(0, 255).astype(np.uint8)
    elif image.mode in ALPHA_MODES or "transparency" in image.info:
        greys = _painted(image.convert("RGBA"))
    else:
        greys = np.asarray(image.convert("RGB").convert("L") if image.mode == "P" else image.convert("L"))
    return Image.fromarray(greys * np.uint8(255) if greys.max(initial=0) == 1 else greys)


def _painted(image: Image.Image) -> np.ndarray:
    """Greys of a mask that is painted on a transparent layer; when all its colours are alike its opacity is the mask."""
    layers = np.asarray(image)
    colours, alpha = np.asarray(image.convert("RGB").convert("L")), layers[..., 3]
    if alpha.min() < alpha.max() and len(np.unique(colours[alpha > 0])) == 1:
        return alpha
    return np.rint(colours.astype(np.float32) * alpha / 255).astype(np.uint8)


def _turned(mask: Image.Image, size: tuple[int, int], turn: int) -> Image.Image:
    """A mask that was made on the picture as it is stored, turned as the picture is; one that is upright already stays."""
    if turn < 5 or mask.size == size or mask.size != size[::-1]:
        return mask
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    mask.info["exif"] = exif.tobytes()
    return ImageOps.exif_transpose(mask)


def _may_be_clear(picture: Path) -> bool:
    """Whether a picture has an alpha at all, from its header."""
    try:
        with open_limited(picture) as image:
            return image.mode in ALPHA_MODES or "transparency" in image.info
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unreadable(f"{picture.name} is not a picture that can be read ({str(error)[:100]}).", "Get it again.") from error


def _of_file(file: Path, picture: Path) -> str:
    """What is wrong with a mask that lies beside its picture."""
    mask = _grey(open_turned(file))
    size, turn = header(picture)
    low, high = mask.getextrema()
    if low == high:
        shade = {0: "black: nothing of the picture would count", 255: "white, which is the same as no mask"}.get(low, f"one grey ({low} of 255), which is the same as no mask")
        return f"The mask {file.name} is all {shade}. Paint it again, or delete it."
    upright = _turned(mask, size, turn).size
    if upright == size:
        return ""
    shape = "scaled" if abs(upright[0] * size[1] - upright[1] * size[0]) <= max(*upright, *size) else "stretched, for its shape is another"
    return f"The mask {file.name} is {upright[0]}x{upright[1]} pixels and its picture {size[0]}x{size[1]}: it is {shape}."


def _of_alpha(picture: Path) -> str:
    """What is wrong with a picture's own alpha."""
    if not _may_be_clear(picture):
        return ""
    image = open_turned(picture)
    if image.convert("RGBA").getchannel("A").getextrema()[1] == 0:
        return f"{picture.name} is wholly transparent: nothing of it can be seen. Take it out, or give it a mask."
    return ""
