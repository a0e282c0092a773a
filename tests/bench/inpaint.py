"""The inpaint matrix: 4 masked contents x 2 areas x 3 blurs x 2 kinds of model, as a contact sheet; unmasked pixels must be identical in every cell.

`python -m tests.bench.inpaint [--quick] [--json] [--out FILE]`. The second kind of model is the tiny world widened to the 9 channels of checkpoints
made for inpainting, with nothing learned about the five new ones. Exits 1 when a pixel outside the mask changed, or nothing changed inside.
"""

import argparse
import copy
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from studio.diffusion.cache import ModelCache
from studio.diffusion.families import SD1_INPAINT
from studio.diffusion.inpaint import blurred
from studio.diffusion.model import Model
from studio.requests import GenerateRequest
from studio.services.generation import paint
from studio.settings import SHIPPED_ROOT, Paths

CONTENTS = ("fill", "original", "latent noise", "latent nothing")
AREAS = ("Whole picture", "Only masked")
BLURS = (0, 4, 16)
SIDE = 128
CELL = SIDE + 6


def widened(model: Model) -> Model:
    """The same model with a UNet of 9 channels that starts out blind to the mask and the masked picture."""
    unet = copy.deepcopy(model.unet)
    old = unet.conv_in
    new = torch.nn.Conv2d(9, old.out_channels, old.kernel_size, padding=old.padding).to(old.weight)
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, :4] = old.weight
        new.bias.copy_(old.bias)
    unet.conv_in = new
    unet.register_to_config(in_channels=9)
    return replace(model, family=SD1_INPAINT, unet=unet)


def main() -> int:
    """Paint every cell, compare, lay out the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps; under a minute")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, default=SHIPPED_ROOT / "outputs" / "inpaint-matrix.png")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        picture, mask = _given(Path(folder))
        with ModelCache(Paths(Path(folder)).prepare()).lend("") as model, torch.no_grad():
            for kind, painter in (("4 channels", model), ("9 channels", widened(model))):
                for area in AREAS:
                    for blur in BLURS:
                        rows.append((kind, area, blur, [_cell(painter, (picture, mask), (content, area, blur), 4 if arguments.quick else 20) for content in CONTENTS]))
    cells = [{"model": kind, "area": area, "blur": blur, "content": content, **facts} for kind, area, blur, row in rows for content, (_, facts) in zip(CONTENTS, row, strict=True)]
    _sheet(rows, arguments.out)
    missed = [cell for cell in cells if cell["changed_outside"] or not cell["changed_inside"]]
    if arguments.json:
        print(json.dumps({"cells": cells, "missed": missed, "sheet": str(arguments.out)}, indent=1))
    else:
        print(f"{len(cells)} cells; unmasked pixels changed in {sum(bool(c['changed_outside']) for c in cells)}; masked part unchanged in {sum(not c['changed_inside'] for c in cells)}")
        print(f"mean change inside: {np.mean([c['changed_inside'] for c in cells]):.1f} of 255; sheet: {arguments.out}")
    return 1 if missed else 0


def _given(folder: Path) -> tuple[Path, Path]:
    """A picture and a mask with a hole in the middle."""
    picture = Image.open(sorted((SHIPPED_ROOT / "studio" / "tinyworld" / "sample").glob("*.png"))[0]).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    mask = Image.new("L", (SIDE, SIDE), 0)
    ImageDraw.Draw(mask).ellipse((40, 30, 92, 80), fill=255)
    paths = folder / "picture.png", folder / "mask.png"
    picture.save(paths[0])
    mask.save(paths[1])
    return paths


def _cell(model: Model, files: tuple[Path, Path], cell: tuple[str, str, int], steps: int) -> tuple[Image.Image, dict[str, float]]:
    """One painting and what it changed: the number of unmasked values that differ, and the mean difference under the mask."""
    content, area, blur = cell
    knobs = {"masked_content": content, "inpaint_area": area, "mask_blur": blur, "denoising_strength": 1.0 if content.startswith("latent") else 0.75}
    request = GenerateRequest(prompt="a red apple", init_image=str(files[0]), mask=str(files[1]), seed=3, steps=steps, cfg_scale=4, padding=16, **knobs)
    after = paint(model, request, {})[0]
    before, now = (np.asarray(image.convert("RGB"), dtype=int) for image in (Image.open(files[0]), after))
    soft = np.asarray(blurred(Image.open(files[1]), blur))
    return after, {"changed_outside": int((before != now)[soft == 0].sum()), "changed_inside": round(float(np.abs(before - now)[soft >= 128].mean()), 2)}


def _sheet(rows: list, out: Path) -> None:
    """All cells with their names."""
    left, top = 190, 22
    sheet = Image.new("RGB", (left + len(CONTENTS) * CELL, top + len(rows) * CELL), "white")
    draw = ImageDraw.Draw(sheet)
    for x, content in enumerate(CONTENTS):
        draw.text((left + x * CELL + 4, 5), content, fill="black")
    for y, (kind, area, blur, cells) in enumerate(rows):
        draw.text((6, top + y * CELL + 50), f"{kind}\n{area}\nblur {blur}", fill="black")
        for x, (image, _) in enumerate(cells):
            sheet.paste(image, (left + x * CELL, top + y * CELL))
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)


if __name__ == "__main__":
    raise SystemExit(main())
