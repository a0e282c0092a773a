"""Networks that find the salient subject of a picture (U2-Net and kin, in the ONNX files that rembg uses), run by onnxruntime where it is installed, else by OpenCV."""

import importlib
import importlib.util
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from studio.dataset.background import Cut, Seed, checked
from studio.errors import Unreadable

SIDE = 320
"""Side of the input of a network whose file leaves it open."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and spread of colours, as most of these networks expect them."""
CENTRED = ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
"""The same for IS-Net and the RMBG networks that came from it."""


@dataclass
class Salient:
    """A network that needs no hint; `net` is a session of onnxruntime or an OpenCV network."""

    net: Any
    size: tuple[int, int]
    """Height and width of its input."""
    norm: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET

    def mask(self, image: Image.Image, seed: Seed) -> Cut:
        """The subject of an RGB picture; confidence is how decided the network is, and strokes are certain."""
        found = self._run(image.convert("RGB"))
        low, high = float(found.min()), float(found.max())
        if low < -0.01 or high > 1.01:
            found = 1 / (1 + np.exp(-np.clip(found, -30, 30)))
            low, high = float(found.min()), float(found.max())
        shares = (found - low) / (high - low) if high - low > 1e-3 else np.zeros_like(found)
        greys = cv2.resize(shares, image.size, interpolation=cv2.INTER_LINEAR if image.width > self.size[1] else cv2.INTER_AREA)
        mask = Image.fromarray(np.rint(greys.clip(0, 1) * 255).astype(np.uint8))
        return checked(mask, float(np.abs(shares - 0.5).mean() * 2), seed)

    def _run(self, image: Image.Image) -> np.ndarray:
        """The network's first output for a picture [h, w]; raises Unreadable when it cannot compute."""
        small = np.asarray(image.resize(self.size[::-1], Image.Resampling.LANCZOS), np.float32)
        mean, spread = (np.float32(values) for values in self.norm)
        batch = np.ascontiguousarray(((small / max(float(small.max()), 1e-6) - mean) / spread).transpose(2, 0, 1)[None])
        try:
            if isinstance(self.net, cv2.dnn.Net):
                self.net.setInput(batch)
                out = self.net.forward(self.net.getUnconnectedOutLayersNames())[0]
            else:
                out = self.net.run(None, {self.net.get_inputs()[0].name: batch})[0]
        except (cv2.error, RuntimeError, ValueError) as error:
            raise Unreadable(f"The background network cannot compute ({str(error).splitlines()[0][:120]}).", "Use another file, or choose GrabCut.") from error
        if out.ndim != 4 or out.shape[0] != 1:
            raise Unreadable(f"The background network gives a tensor of shape {out.shape}, not a mask.", "Use a file that rembg uses, such as u2net.onnx.")
        return out[0, 0].astype(np.float32)


def load_salient(path: Path, runtime: bool = True) -> Salient:
    """Read an ONNX file, by onnxruntime (not without `runtime`) or OpenCV; raises Unreadable."""
    channels, height, width = input_shape(path)
    if channels not in (0, 3):
        raise Unreadable(f"{path.name} takes {channels} channels, not the three of a picture.", "Use a file that rembg uses, such as u2net.onnx.")
    centred = any(word in path.stem.lower() for word in ("isnet", "rmbg"))
    size = (height or SIDE, width or SIDE)
    if runtime and importlib.util.find_spec("onnxruntime"):
        return Salient(_session(path), size, CENTRED if centred else IMAGENET)
    try:
        net = cv2.dnn.readNetFromONNX(str(path))
    except cv2.error as error:
        raise Unreadable(f"OpenCV cannot read {path.name} ({_reason(error)}).", "Install onnxruntime, which reads every ONNX file: pip install onnxruntime.") from error
    return Salient(net, size, CENTRED if centred else IMAGENET)


def _session(path: Path) -> Any:
    """A session of onnxruntime on the processor; raises Unreadable."""
    runtime = importlib.import_module("onnxruntime")
    failures = tuple(kind for name in ("Fail", "InvalidProtobuf", "InvalidGraph", "NotImplemented", "InvalidArgument") if (kind := getattr(runtime.capi.onnxruntime_pybind11_state, name, None)))
    try:
        return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except (RuntimeError, ValueError, *failures) as error:
        raise Unreadable(f"{path.name} is not an ONNX file that can be used ({_reason(error)}).", "Get it again.") from error


def _reason(error: Exception) -> str:
    """The first words of an error of a library."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def input_shape(path: Path) -> tuple[int, int, int]:
    """Channels, height and width of the first input of an ONNX file, 0 where they are open; raises Unreadable for what is no such file.

    The path in the file (onnx.proto): graph 7, input 11, type 2, tensor 1, shape 2, dimension 1, value 1.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole, memoryview(whole) as view:
            levels = [view]
            for number in (7, 11, 2, 1, 2):
                levels.append(next(value for field, value in _fields(levels[-1]) if field == number and isinstance(value, memoryview)))
            dimensions = [value for field, value in _fields(levels[-1]) if field == 1 and isinstance(value, memoryview)]
            shape = [next((value for field, value in _fields(one) if field == 1 and isinstance(value, int)), 0) for one in dimensions]
            for part in (*dimensions, *reversed(levels[1:])):
                part.release()
    except (OSError, ValueError, IndexError, StopIteration, BufferError) as error:
        raise Unreadable(f"{path.name} is not an ONNX file.", "Get it again; models/rembg holds files such as u2net.onnx.") from error
    if len(shape) != 4:
        raise Unreadable(f"{path.name} takes {len(shape)} dimensions, not a picture's four.", "Use a file that rembg uses, such as u2net.onnx.")
    return shape[1], shape[2], shape[3]


def _fields(view: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Numbers and values of the fields of a protobuf message; raises ValueError or IndexError for what is none."""
    at = 0
    while at < len(view):
        key, at = _varint(view, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(view, at)
            yield key >> 3, value
            continue
        if kind not in (1, 2, 5):
            raise ValueError(kind)
        length, at = _varint(view, at) if kind == 2 else (8 if kind == 1 else 4, at)
        if at + length > len(view):
            raise ValueError(length)
        yield key >> 3, view[at : at + length]
        at += length


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """A number of variable length and the place behind it."""
    value = shift = 0
    while True:
        byte = view[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError(shift)
