"""SEGMENTERS: what can find the subject of a picture: the classical cut always, networks when their files are on the shelf. Nothing is downloaded."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError

from studio.dataset.background import Cut, Seed, along_edges, checked, cut_out, stroke
from studio.dataset.salient import load_salient
from studio.errors import InputError, NotFound, Unreadable
from studio.settings import Paths

SAM = ("sam", "sam_hq", "sam2", "sam2_video", "edgetam", "edgetam_video", "sam3_tracker", "sam3_video")
"""Kinds of transformers folders that are asked with points and boxes."""
OLD_SAM = ("sam", "sam_hq")
"""Those whose scaling has to be told when masks are brought back to the picture's size."""
UNFIT = ("oneformer", "videomt")
"""Kinds that need more than a picture."""
BACKGROUND = frozenset({"background", "bg", "_background_", "unlabeled", "unlabelled", "void", "wall", "sky", "floor", "ceiling", "ground"})
"""Labels that are no subject."""
SURE_OF_WORDS = 0.4
"""CLIPSeg's probability from which a pixel is what the words say (Lüddecke & Ecker 2022 use 0.3 to 0.5)."""
UNUSABLE = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, ImportError, SafetensorError, UnpicklingError)
"""What transformers raises for a folder that is not whole."""
POINTS = 6
"""Most points of strokes that a model is asked with, of each kind."""


class Segmenter(Protocol):
    """Finds the subject of a picture."""

    def mask(self, image: Image.Image, seed: Seed) -> Cut:
        """The subject of an RGB picture."""


class Classical:
    """GrabCut."""

    def mask(self, image: Image.Image, seed: Seed) -> Cut:
        """The subject by colours and edges alone."""
        return cut_out(image, seed)


@dataclass
class Prompted:
    """SAM and kin (Kirillov et al. 2023): asked with what is known, else with what the classical cut finds."""

    model: Any
    processor: Any

    @torch.no_grad()
    def mask(self, image: Image.Image, seed: Seed) -> Cut:
        """The mask of the model that it trusts most; confidence is its own estimate."""
        image = image.convert("RGB")
        points, labels, box = prompts(image, seed)
        asked: dict[str, Any] = {"input_boxes": [[box]]} if box else {}
        if points:
            asked |= {"input_points": [[points]], "input_labels": [[labels]]}
        inputs = self.processor(images=image, return_tensors="pt", **asked)
        sizes = [inputs[name] for name in ("original_sizes", "reshaped_input_sizes") if name in inputs]
        out = self.model(**_on(inputs, self.model))
        kept = sizes if self.model.config.model_type in OLD_SAM else sizes[:1]
        found = self.processor.post_process_masks(out.pred_masks.float().cpu(), *kept, binarize=False)[0]
        scores = out.iou_scores.float().cpu().reshape(-1)
        best = int(scores.argmax())
        return checked(_greys(torch.sigmoid(found.reshape(-1, *found.shape[-2:])[best]).numpy()), float(scores[best]), seed)


@dataclass
class Worded:
    """CLIPSeg (Lüddecke & Ecker 2022): finds what words say."""

    model: Any
    processor: Any

    @torch.no_grad()
    def mask(self, image: Image.Image, seed: Seed) -> Cut:
        """What the seed's words name; raises InputError without words."""
        if not seed.words.strip():
            raise InputError("CLIPSeg needs words for what it should find.", 'Say what the subject is, such as "a dog".')
        image = image.convert("RGB")
        inputs = self.processor(text=[seed.words], images=[image], return_tensors="pt", truncation=True)
        logits = self.model(**_on(inputs, self.model)).logits
        shares = torch.sigmoid(logits.float().cpu()).reshape(logits.shape[-2:]).numpy()
        return _snapped(image, cv2.resize(shares, image.size, interpolation=cv2.INTER_LINEAR) - (SURE_OF_WORDS - 0.5), seed)


@dataclass
class Labelled:
    """A network that divides the whole picture into labelled parts; the subject is the parts that the seed, or the classical cut, lies in."""

    model: Any
    processor: Any

    @torch.no_grad()
    def mask(self, image: Image.Image, seed: Seed) -> Cut:
        """The parts that lie mostly where the subject is thought to be."""
        image = image.convert("RGB")
        out = self.model(**_on(self.processor(images=image, return_tensors="pt"), self.model))
        shares, names = self._instances(out, image.size) if hasattr(out, "masks_queries_logits") or hasattr(out, "pred_masks") else self._classes(out, image.size)
        if not len(shares):
            return checked(Image.new("L", image.size, 0), 0.0)
        return _snapped(image, shares[chosen(shares, names, reference(image, seed), stroke(seed.subject, image.size) is not None)].sum(0), seed)

    def _classes(self, out: Any, size: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
        """Probability of each class at each pixel [c, h, w], and what the classes are called."""
        logits = torch.nn.functional.interpolate(out.logits.float().cpu(), size=size[::-1], mode="bilinear", align_corners=False)[0]
        labels = self.model.config.id2label
        if len(logits) == 1:
            share = torch.sigmoid(logits[0])
            return torch.stack([1 - share, share]).numpy(), ["background", "subject"]
        names = [str(labels.get(i, i)).lower() for i in range(len(logits))]
        return logits.softmax(0).numpy(), ["background", names[1]] if len(names) == 2 and names[0] in ("label_0", "0") else names

    def _instances(self, out: Any, size: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
        """Every thing that was found [n, h, w], as 0 and 1, and what it is called."""
        found = self.processor.post_process_instance_segmentation(out, threshold=0.5, target_sizes=[size[::-1]])[0]
        parts, labels = found["segmentation"], self.model.config.id2label
        if parts is None or not found["segments_info"]:
            return np.zeros((0, *size[::-1]), np.float32), []
        ids = [(info["id"], str(labels.get(info["label_id"], "")).lower()) for info in found["segments_info"]]
        return np.stack([(parts.cpu().numpy() == number).astype(np.float32) for number, _ in ids]), [name for _, name in ids]


def prompts(image: Image.Image, seed: Seed) -> tuple[list[list[float]], list[int], list[float] | None]:
    """Points in pixels, their labels (1 on the subject, 0 beside it), and a box, for SAM; without any hint those of the classical cut."""
    width, height = image.size
    points = [[x, y, 1] for x, y in _spread(stroke(seed.subject, image.size))] + [[x, y, 0] for x, y in _spread(stroke(seed.background, image.size))]
    box = seed.box
    if seed.point and not any(label for *_, label in points):
        points.append([seed.point[0] * width, seed.point[1] * height, 1])
    for left, top, right, bottom in () if points or box else seed.faces[:1]:
        points += [[(left + right) / 2 * width, (top + bottom) / 2 * height, 1], [(left + right) / 2 * width, min(0.98, bottom + (bottom - top)) * height, 1]]
    if not any(label for *_, label in points) and box is None:
        found = np.asarray(cut_out(image, seed).mask) >= 128
        points += [[x, y, 1] for x, y in _spread(found)[:1]]
        box = _around(found)
    points = points or [[width / 2, height / 2, 1]]
    inside = [[min(max(0.0, float(x)), width - 1.0), min(max(0.0, float(y)), height - 1.0)] for x, y, _ in points]
    scaled = [min(max(0.0, v), 1.0) * side for v, side in zip(box, (width, height, width, height), strict=True)] if box else None
    return inside, [int(label) for *_, label in points], scaled


def reference(image: Image.Image, seed: Seed) -> np.ndarray:
    """Where the subject is thought to be, as booleans [h, w]: its strokes, else the classical cut, else an ellipse in the middle."""
    painted = stroke(seed.subject, image.size)
    if painted is not None:
        return painted
    cut = cut_out(image, seed)
    if not cut.problem:
        return np.asarray(cut.mask) >= 128
    middle = np.zeros((image.height, image.width), np.uint8)
    cv2.ellipse(middle, (image.width // 2, image.height // 2), (max(1, image.width // 4), max(1, image.height // 4)), 0, 0, 360, 1, -1)
    return middle > 0


def chosen(shares: np.ndarray, names: list[str], where: np.ndarray, painted: bool = False) -> np.ndarray:
    """Which parts [n, h, w] are the subject, as booleans [n]; a background never, unless there is nothing else.

    Those of which more lies inside `where` than outside, or that hold a quarter of it when it is only strokes on the subject; else the one that holds most of it.
    """
    inside = (shares * where).sum((1, 2))
    outside = shares.sum((1, 2)) - inside
    allowed = np.array([name.strip() not in BACKGROUND for name in names])
    if not allowed.any():
        allowed[:] = True
    found = allowed & (inside >= 0.25 * where.sum() if painted else (inside > outside) & (inside >= 0.05 * where.sum()))
    if not found.any():
        found = np.arange(len(names)) == np.where(allowed, inside, -1).argmax()
    return found


def _spread(painted: np.ndarray | None) -> list[tuple[float, float]]:
    """Some points that lie deep in a shape, far from each other, in pixels; none of an empty shape."""
    points: list[tuple[float, float]] = []
    if painted is None or not painted.any():
        return points
    depth = cv2.distanceTransform(np.pad(painted, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    reach = max(2, max(painted.shape) // 8)
    while len(points) < POINTS and depth.max() > 0:
        y, x = (int(v) for v in np.unravel_index(int(depth.argmax()), depth.shape))
        points.append((x + 0.5, y + 0.5))
        cv2.circle(depth, (x, y), reach, 0, -1)
    return points


def _around(found: np.ndarray) -> tuple[float, float, float, float] | None:
    """The box of a shape as shares; None of an empty one."""
    if not found.any():
        return None
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    height, width = found.shape
    return columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height


def _snapped(image: Image.Image, shares: np.ndarray, seed: Seed) -> Cut:
    """Probabilities [h, w] as a mask whose edge follows the picture's; confidence is how decided they are."""
    greys = along_edges(np.asarray(image), shares >= 0.5)
    return checked(Image.fromarray(greys), float(np.abs(shares.clip(0, 1) - 0.5).mean() * 2), seed)


def _greys(shares: np.ndarray) -> Image.Image:
    """Probabilities as greys."""
    return Image.fromarray(np.rint(shares.clip(0, 1) * 255).astype(np.uint8))


def _on(inputs: Any, model: Any) -> dict[str, Any]:
    """Inputs on the model's device, fractions in its precision."""
    return {name: (value.to(model.device, model.dtype) if value.is_floating_point() else value.to(model.device)) for name, value in inputs.items() if isinstance(value, torch.Tensor)}


# the shelf


def find_classical(paths: Paths) -> Path | None:
    """What GrabCut needs is always there."""
    return Path(__file__)


def find_salient(paths: Paths) -> Path | None:
    """The first ONNX file in models/rembg."""
    return next(iter(sorted((paths.models / "rembg").glob("*.onnx"))), None)


def folders(paths: Paths) -> Iterator[tuple[Path, str]]:
    """Folders in models/segmentation and the kind of network that each config names, empty when it cannot be read."""
    for config in sorted((paths.models / "segmentation").glob("*/config.json")):
        try:
            kind = json.loads(config.read_text(encoding="utf-8")).get("model_type", "")
        except (OSError, ValueError, AttributeError):
            kind = ""
        yield config.parent, str(kind)


def find_prompted(paths: Paths) -> Path | None:
    """The first SAM folder."""
    return next((folder for folder, kind in folders(paths) if kind in SAM), None)


def find_worded(paths: Paths) -> Path | None:
    """The first CLIPSeg folder."""
    return next((folder for folder, kind in folders(paths) if kind == "clipseg"), None)


def find_labelled(paths: Paths) -> Path | None:
    """The first folder of another kind."""
    return next((folder for folder, kind in folders(paths) if kind not in (*SAM, "clipseg")), None)


def load_classical(path: Path, device: torch.device) -> Segmenter:
    """Nothing is read."""
    return Classical()


def load_rembg(path: Path, device: torch.device) -> Segmenter:
    """Read an ONNX file; it computes on the processor. Raises Unreadable."""
    return load_salient(path)


def load_prompted(path: Path, device: torch.device) -> Segmenter:
    """Read a SAM folder; raises Unreadable."""
    return Prompted(*_loaded(path, device, ("AutoModelForMaskGeneration",), "AutoProcessor"))


def load_worded(path: Path, device: torch.device) -> Segmenter:
    """Read a CLIPSeg folder; raises Unreadable."""
    return Worded(*_loaded(path, device, ("CLIPSegForImageSegmentation",), "AutoProcessor"))


def load_labelled(path: Path, device: torch.device) -> Segmenter:
    """Read a folder for semantic, instance or panoptic segmentation; raises Unreadable."""
    kinds = ("AutoModelForSemanticSegmentation", "AutoModelForUniversalSegmentation", "AutoModelForInstanceSegmentation", "AutoModelForImageSegmentation")
    return Labelled(*_loaded(path, device, kinds, "AutoImageProcessor"))


def _loaded(path: Path, device: torch.device, kinds: tuple[str, ...], processor: str) -> tuple[Any, Any]:
    """Network and processor of a folder, offline, safetensors first, by the first class that knows the config; raises Unreadable for everything that is not whole."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
        name = next((kind for kind in kinds if not kind.startswith("Auto") or type(config) in getattr(transformers, kind)._model_mapping), None)
        if name is None:
            raise Unreadable(
                f"{path.name} is a {config.model_type} network, which does not divide pictures.", "Put a folder of SAM, CLIPSeg, SegFormer, Mask2Former or the like into models/segmentation."
            )
        model, said = getattr(transformers, name).from_pretrained(path, local_files_only=True, dtype=torch.float32, output_loading_info=True)
        if said["missing_keys"]:
            raise Unreadable(f"{path.name} lacks weights, such as {sorted(said['missing_keys'])[0]!r}.", "Its weights belong to another network: get the folder again.")
        return model.to(device).eval(), getattr(transformers, processor).from_pretrained(path, local_files_only=True)
    except UNUSABLE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise Unreadable(f"The segmentation model {path.name} cannot be loaded ({reason}).", "Its folder must hold config.json, the weights and preprocessor_config.json.") from error


class Entry(NamedTuple):
    """One way to find a subject: what it is called, where its file is (None when it is not there), how it is loaded, and what to do to get it."""

    name: str
    find: Callable[[Paths], Path | None]
    load: Callable[[Path, torch.device], Segmenter]
    hint: str


SEGMENTERS: tuple[Entry, ...] = (
    Entry("rembg", find_salient, load_rembg, "Put an ONNX file of rembg, such as u2net.onnx or isnet-general-use.onnx, into models/rembg."),
    Entry("SAM", find_prompted, load_prompted, "Put a transformers folder of SAM or SAM 2 into models/segmentation."),
    Entry("Segmentation", find_labelled, load_labelled, "Put a transformers folder of SegFormer, Mask2Former or the like into models/segmentation."),
    Entry("CLIPSeg", find_worded, load_worded, "Put a transformers folder of CLIPSeg into models/segmentation."),
    Entry("GrabCut", find_classical, load_classical, ""),
)
"""In the order in which Automatic takes the first that is there; CLIPSeg only when words are given, and then first."""


def choose(name: str, paths: Paths, words: str = "") -> tuple[Entry, Path]:
    """The way called `name`, or for Automatic the first that is there, with its file; raises NotFound."""
    named = [entry for entry in SEGMENTERS if entry.name == name]
    if not named and name != "Automatic":
        raise NotFound(f"There is no way called {name!r} to find a subject.", f"Choose one of Automatic, {', '.join(entry.name for entry in SEGMENTERS)}.")
    worded = [entry for entry in SEGMENTERS if entry.name == "CLIPSeg"] if words.strip() else []
    for entry in named or [*worded, *(entry for entry in SEGMENTERS if entry.name != "CLIPSeg")]:
        path = entry.find(paths)
        if path is not None:
            return entry, path
    raise NotFound(f"There is no model for {name} on the shelf.", named[0].hint)
