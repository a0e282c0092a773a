"""Pictures a person gives, opened safely and brought to the size that is worked on: the four resize modes."""

from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from studio.errors import InputError, NotFound, Unreadable
from studio.formats.opening import open_limited
from studio.requests.generate import ResizeMode

LATENT_CELL = 8
"""Pixels to a side that one latent cell stands for; a picture that is enlarged as latents is brought to a multiple of it."""

_LANCZOS = Image.Resampling.LANCZOS
_ALPHA_MODES = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})


def open_image(path: str | Path, label: str = "Picture") -> Image.Image:
    """A picture's first frame, upright by its EXIF, as L, RGB, LA or RGBA with 8 bits; raises NotFound and Unreadable in words that begin with `label`."""
    path = Path(path)
    try:
        with open_limited(path, f"{label}: {path.name!r}") as image:
            image.load()
            return eight_bits(ImageOps.exif_transpose(image))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFound(f"{label}: there is no picture at {str(path)!r}.", "Choose the picture again.") from error
    except UnidentifiedImageError as error:
        raise Unreadable(f"{label}: {path.name!r} {'is empty' if path.stat().st_size == 0 else 'is not a picture'}.", "Choose a picture such as a .png, .jpg or .webp file.") from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, OverflowError) as error:
        raise Unreadable(f"{label}: {path.name!r} is damaged or cut off ({str(error)[:100]}).", "Get it again, or choose another picture.") from error


def open_picture(path: str | Path, label: str = "Picture") -> Image.Image:
    """A picture as upright RGB, alpha laid on white; raises NotFound and Unreadable in words that begin with `label`."""
    return on_white(open_image(path, label))


def eight_bits(image: Image.Image) -> Image.Image:
    """Any mode as L, RGB, LA or RGBA: 16 bits and floats are scaled, palettes and CMYK become colours, transparency becomes alpha."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _scaled_to_eight(image)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        return image.convert("LA" if image.mode == "LA" else "RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _scaled_to_eight(image: Image.Image) -> Image.Image:
    """Greys of more than 8 bits as L: 16-bit ones by 65535, others by 255 or 1 when they fit in it."""
    plain = image.convert("F")
    high = float(plain.getextrema()[1])
    top = 65535.0 if image.mode.startswith("I;16") or high > 255 else 255.0 if high > 1 else 1.0
    return plain.point(lambda v: v * (255.0 / top) + 0.5).convert("L")


def on_white(image: Image.Image) -> Image.Image:
    """A picture as RGB with its alpha laid on white."""
    return flattened(image)


def flattened(image: Image.Image, background: str = "#ffffff") -> Image.Image:
    """A picture as RGB with its alpha laid on a colour that Pillow knows."""
    image = eight_bits(image)
    if image.mode in ("L", "RGB"):
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, background), layer).convert("RGB")


def resized(image: Image.Image, size: tuple[int, int], mode: ResizeMode) -> Image.Image:
    """A picture brought to (width, height) by a resize mode; for latent upscale to its own nearest multiple of 8, since its latents are enlarged later."""
    if mode == "Just resize":
        return _scaled(image, size)
    if mode == "Crop and resize":
        return cropped(image, size)
    if mode == "Resize and fill":
        return fitted(image, size)
    if mode == "Just resize (latent upscale)":
        return _scaled(image, (whole_cells(image.width), whole_cells(image.height)))
    raise InputError(f"There is no resize mode {mode!r}.", "Use Just resize, Crop and resize, Resize and fill, or Just resize (latent upscale).")


def whole_cells(side: int) -> int:
    """The multiple of 8 pixels nearest to a side, at least 64."""
    return max(64, (side + LATENT_CELL // 2) // LATENT_CELL * LATENT_CELL)


def cropped(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A picture scaled until it covers (width, height), and what sticks out cut off around the middle."""
    scale = max(size[0] / image.width, size[1] / image.height)
    width, height = min(image.width, size[0] / scale), min(image.height, size[1] / scale)
    left, top = (image.width - width) / 2, (image.height - height) / 2
    return image.resize(size, _LANCZOS, box=(left, top, left + width, top + height))


def inner_box(source: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where a picture of `source` lies when it is scaled to fit into the middle of `size`; at least one pixel wide and high. Fractions of pixels are dropped, as in A1111."""
    width, height = size
    if width * source[1] < source[0] * height:
        height = max(1, source[1] * width // source[0])
    else:
        width = max(1, source[0] * height // source[1])
    left, top = size[0] // 2 - width // 2, size[1] // 2 - height // 2
    return left, top, left + width, top + height


def fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A picture scaled to fit into (width, height); its outermost rows or columns are stretched over what stays free."""
    left, top, right, bottom = inner_box(image.size, size)
    middle = _scaled(image, (right - left, bottom - top))
    result = Image.new(image.mode, size)
    result.paste(middle, (left, top))
    width, height = middle.size
    for edge, box in (
        ((0, 0, 1, height), (0, top, left, bottom)),
        ((width - 1, 0, width, height), (right, top, size[0], bottom)),
        ((0, 0, width, 1), (left, 0, right, top)),
        ((0, height - 1, width, height), (left, bottom, right, size[1])),
    ):
        if box[2] > box[0] and box[3] > box[1]:
            result.paste(middle.crop(edge).resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.NEAREST), box)
    return result


def _scaled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A picture stretched to (width, height)."""
    return image.copy() if image.size == size else image.resize(size, _LANCZOS)
