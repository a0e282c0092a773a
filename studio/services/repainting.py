"""Pictures that begin in a picture: what is worked on, where the walk begins, and how the result is put back."""

from dataclasses import dataclass, replace

from PIL import Image
from torch import Tensor

from studio.diffusion.canvas import Canvas, canvas, overlay_of, put_back
from studio.diffusion.colour import corrected
from studio.diffusion.conversion import from_image
from studio.diffusion.inpaint import blurred, filled, mask_of, read_mask, sketch
from studio.diffusion.masked_latents import first_content, latent_mask, mask_tensor, masked_conditioning
from studio.diffusion.model import Model
from studio.diffusion.noise import Seeds
from studio.diffusion.resize import flattened, open_image, open_picture
from studio.diffusion.sampling import Start
from studio.diffusion.soft import Softness, blender, change_mask, overlay_masks
from studio.diffusion.upscale import enlarged_latents
from studio.requests.generate import GenerateRequest


@dataclass(frozen=True)
class Repainting:
    """One picture being repainted: the canvas, the walk's start, the picture's own latents [1, 4, h, w] and the mask on their grid [1, 1, h, w] (None = all of it)."""

    canvas: Canvas
    start: Start
    known: Tensor
    cells: Tensor | None
    request: GenerateRequest

    def finished(self, latents: Tensor, pictures: list[Image.Image]) -> list[Image.Image]:
        """Painted working pictures, with their latents [b, 4, h, w], as whole results: put back into the original, colours corrected."""
        masks: list[Image.Image | None] = [None] * len(pictures)
        if self.request.soft_inpainting and self.cells is not None:
            change = change_mask(self.known.float(), latents.float(), self.cells.float(), Softness.of(self.request))
            masks = list(overlay_masks(change, self.canvas.working.size))
        if self.request.color_correction:
            pictures = [corrected(picture, self.canvas.working) for picture in pictures]
        return [put_back(self.canvas, picture, mask) for picture, mask in zip(pictures, masks, strict=True)]


def working_size(model: Model, request: GenerateRequest) -> tuple[int, int]:
    """Width and height in pixels that are painted; a picture that is repainted whole keeps its own size when none is asked for."""
    if request.width and request.height:
        return request.width, request.height
    if request.repainting and (request.inpaint_area == "Whole picture" or not request.mask):
        width, height = open_picture(request.init_image).size
        return request.width or max(64, width // 8 * 8), request.height or max(64, height // 8 * 8)
    return request.width or model.native_size, request.height or model.native_size


def begin(model: Model, request: GenerateRequest, size: tuple[int, int], noise: Seeds) -> Repainting:
    """Open and lay out the picture and its mask for a result of (width, height); raises Unreadable, InputError in words."""
    picture, mask = _opened(request)
    laid = _own_size(canvas(picture, mask, request, size), picture, mask, request)
    soft = laid.working_mask
    grid = (size[1] // model.scale, size[0] // model.scale)
    cells = None if soft is None else latent_mask(soft, grid, not request.soft_inpainting).to(model.device)
    known = _encoded(model, laid.working, request, grid)
    content = known if cells is None or soft is None else _content(model, request, laid, (known, cells), noise)
    blend = blender(Softness.of(request)) if request.soft_inpainting and cells is not None else None
    start = Start(known, request.denoising_strength, cells, content, _shown(model, request, laid), blend)
    return Repainting(laid, start, known, cells, request)


def _own_size(laid: Canvas, picture: Image.Image, mask: Image.Image | None, request: GenerateRequest) -> Canvas:
    """A canvas whose result keeps the picture's own size to the pixel when no other is asked for, though the model needs multiples of 8."""
    if laid.mask is None or mask is None or request.width or request.height or request.inpaint_area == "Only masked" or picture.size == laid.original.size:
        return laid
    soft = blurred(read_mask(mask, picture.size, request.mask_mode == "Inpaint not masked", not request.soft_inpainting), request.mask_blur)
    return replace(laid, original=picture, mask=overlay_of(soft), box=(0, 0, *picture.size))


def _opened(request: GenerateRequest) -> tuple[Image.Image, Image.Image | None]:
    """The picture with its sketch, and the mask; raises InputError on an empty mask over the whole picture."""
    picture = flattened(open_image(request.init_image), request.background_color)
    mask = open_image(request.mask, "Mask") if request.mask else None
    if request.sketch:
        picture, strokes = sketch(picture, open_image(request.sketch, "Sketch"))
        mask = strokes if mask is not None else None
    if mask is not None and request.inpaint_area == "Whole picture":
        mask_of(mask, picture.size, request.mask_mode == "Inpaint not masked")
    return picture, mask


def _encoded(model: Model, picture: Image.Image, request: GenerateRequest, grid: tuple[int, int]) -> Tensor:
    """The picture's latents [1, 4, h, w] on the grid that is painted."""
    latents = model.encode_images(from_image(picture))[0]
    if request.resize_mode == "Just resize (latent upscale)" and latents.shape[-2:] != grid:
        return enlarged_latents(latents, grid, "Latent")
    return latents


def _content(model: Model, request: GenerateRequest, laid: Canvas, known: tuple[Tensor, Tensor], noise: Seeds) -> Tensor:
    """What the masked part holds before the first step, [1 or b, 4, h, w]; `known` are the picture's latents and the mask on their grid."""
    latents, cells = known
    if request.masked_content == "original" or laid.working_mask is None:
        return latents
    fill = model.encode_images(from_image(filled(laid.working, laid.working_mask)))[0]
    if fill.shape != latents.shape:
        fill = enlarged_latents(fill, tuple(latents.shape[-2:]), "Latent")
    return first_content(request.masked_content, fill, cells, noise.first(tuple(latents.shape[-2:])).to(latents))


def _shown(model: Model, request: GenerateRequest, laid: Canvas) -> Tensor | None:
    """What a checkpoint made for inpainting is shown of the picture; None for others."""
    if not model.family.inpaints:
        return None
    mask = None if laid.working_mask is None else mask_tensor(laid.working_mask, not request.soft_inpainting)
    return masked_conditioning(model, from_image(laid.working).to(model.device), mask, request.inpainting_mask_weight)
