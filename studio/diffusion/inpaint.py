"""Masks: blur, what is under them at first, cutting out the masked part, and pasting it back. Pure on pictures."""

from PIL import Image, ImageChops, ImageFilter

from studio.errors import InputError


def mask_of(image: Image.Image, size: tuple[int, int], invert: bool) -> Image.Image:
    """A mask as 8-bit greys of a picture's size: white is repainted. Raises InputError when it is of another size or empty."""
    mask = image.getchannel("A") if image.mode == "RGBA" and image.getchannel("A").getextrema()[0] < 255 else image.convert("L")
    if mask.size != size:
        raise InputError(f"The mask is {mask.width}x{mask.height}, but the picture is {size[0]}x{size[1]}.", "Paint the mask on this picture.")
    mask = mask.point(lambda v: 255 if v >= 128 else 0)
    mask = ImageChops.invert(mask) if invert else mask
    if mask.getbbox() is None:
        raise InputError("The mask is empty: nothing would be repainted.", "Paint over the part that should change.")
    return mask


def blurred(mask: Image.Image, radius: int) -> Image.Image:
    """The mask with a soft edge of `radius` pixels."""
    return mask.filter(ImageFilter.GaussianBlur(radius)) if radius else mask


def filled(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The masked part replaced by ever softer copies of what surrounds it."""
    base = Image.new("RGBA", image.size)
    surround = image.convert("RGBA")
    surround.putalpha(ImageChops.invert(mask))
    surround = surround.convert("RGBa")
    for radius, times in ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1)):
        soft = surround.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA") if radius else surround.convert("RGBA")
        for _ in range(times):
            base.alpha_composite(soft)
    return base.convert("RGB")


def crop_box(mask: Image.Image, padding: int, aspect: float) -> tuple[int, int, int, int]:
    """The box around the mask with padding, widened towards `aspect` (width / height) inside the picture."""
    left, top, right, bottom = mask.getbbox()
    left, top = max(0, left - padding), max(0, top - padding)
    right, bottom = min(mask.width, right + padding), min(mask.height, bottom + padding)
    width, height = right - left, bottom - top
    wanted = (max(width, round(height * aspect)), max(height, round(width / aspect)))
    left, right = _widen(left, right, wanted[0], mask.width)
    top, bottom = _widen(top, bottom, wanted[1], mask.height)
    return left, top, right, bottom


def _widen(low: int, high: int, wanted: int, limit: int) -> tuple[int, int]:
    """An interval made `wanted` long around its middle, pushed inside 0..limit."""
    wanted = min(wanted, limit)
    low = max(0, min(limit - wanted, (low + high - wanted) // 2))
    return low, low + wanted


def pasted(original: Image.Image, painted: Image.Image, mask: Image.Image) -> Image.Image:
    """The painted picture over the original by the soft mask; where the mask is 0 the original's pixels stay as they are."""
    return Image.composite(painted, original, mask)
