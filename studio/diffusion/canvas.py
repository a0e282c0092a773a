"""The part of a picture that is worked on: cut out and scaled as a request says, and put back without touching the rest. Pure on pictures."""

from dataclasses import dataclass

from PIL import Image

from studio.diffusion.inpaint import Box, blurred, crop_box, pasted, read_mask
from studio.diffusion.resize import fitted, inner_box, resized
from studio.requests.generate import Repaint

EMPTY_NOTE = "The mask is empty, so there is no masked part to zoom into: the whole picture was repainted as in img2img."
"""What a person is told when Only masked meets an empty mask."""


@dataclass(frozen=True)
class Canvas:
    """A picture that is repainted, with everything needed to cut out what is worked on and to put it back.

    `working` is the picture to encode, `working_mask` its soft mask (None = all of it is repainted); `box` is the part of `original` they show
    and `inner` where that part lies in the working picture; `mask` says how much of each of the original's pixels is replaced.
    """

    original: Image.Image
    mask: Image.Image | None
    working: Image.Image
    working_mask: Image.Image | None
    box: Box
    inner: Box
    note: str = ""


def canvas(picture: Image.Image, mask: Image.Image | None, request: Repaint, size: tuple[int, int], blur_y: float | None = None) -> Canvas:
    """What is worked on at (width, height) for an RGB picture and a mask of any kind or none, as a request's knobs say.

    Whole picture brings both to that size by the resize mode, so the result has that size; Only masked zooms into the mask's box, and the result has
    the picture's own size. An empty mask leaves Only masked nothing to zoom into: all is repainted as without a mask, and `note` says so.
    """
    if mask is None:
        return _unmasked(picture, request, size)
    hard = read_mask(mask, picture.size, request.mask_mode == "Inpaint not masked", not request.soft_inpainting)
    soft = blurred(hard, request.mask_blur, blur_y)
    # A dot that the blur thins out to nothing is repainted with its hard edge.
    soft = soft if soft.getbbox() else hard
    if request.inpaint_area == "Only masked":
        return _zoomed(picture, soft, request.padding, size) if soft.getbbox() else _unmasked(picture, request, size, EMPTY_NOTE)
    original, small = _laid_out(picture, request, size), _laid_out(soft, request, size)
    return Canvas(original, overlay_of(small), resized(picture, size, request.resize_mode), small, (0, 0, *size), (0, 0, *size))


def overlay_of(soft: Image.Image) -> Image.Image:
    """How much of each pixel is replaced under a soft mask: inside the painted area all of it; only the outer half of the soft edge mixes the two."""
    return soft.point(lambda v: min(255, 2 * v))


def _laid_out(image: Image.Image, request: Repaint, size: tuple[int, int]) -> Image.Image:
    """A picture or mask at the result's size; what is enlarged as latents is stretched."""
    return resized(image, size, "Just resize" if request.resize_mode == "Just resize (latent upscale)" else request.resize_mode)


def _unmasked(picture: Image.Image, request: Repaint, size: tuple[int, int], note: str = "") -> Canvas:
    """A canvas that is repainted all over."""
    return Canvas(_laid_out(picture, request, size), None, resized(picture, size, request.resize_mode), None, (0, 0, *size), (0, 0, *size), note)


def _zoomed(picture: Image.Image, soft: Image.Image, padding: int, size: tuple[int, int]) -> Canvas:
    """A canvas that shows the masked part only; where the picture is too small for the shape asked for, its edges are stretched."""
    box = crop_box(soft, padding, size[0] / size[1])
    inner = inner_box((box[2] - box[0], box[3] - box[1]), size)
    return Canvas(picture, soft, fitted(picture.crop(box), size), fitted(soft.crop(box), size), box, inner)


def put_back(canvas: Canvas, painted: Image.Image, mask: Image.Image | None = None) -> Image.Image:
    """The painted working picture in its place on the original; where the canvas's mask is 0, the original's pixels are kept to the bit.

    `mask`, of the working picture's size, can say for each pixel how much of it is taken instead (soft inpainting decides that after painting).
    """
    if canvas.mask is None:
        return painted.copy()
    whole, how_much = canvas.original.copy(), canvas.mask
    whole.paste(_out_of(painted, canvas), canvas.box)
    if mask is not None:
        how_much = Image.new("L", canvas.original.size, 0)
        how_much.paste(_out_of(mask, canvas), canvas.box)
        how_much = Image.composite(how_much, Image.new("L", how_much.size, 0), canvas.mask.point(lambda v: 255 if v else 0))
    return pasted(canvas.original, whole, how_much)


def _out_of(image: Image.Image, canvas: Canvas) -> Image.Image:
    """The part of a working picture that shows the canvas's box, at that box's size."""
    box = canvas.box
    return image.crop(canvas.inner).resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.LANCZOS)
