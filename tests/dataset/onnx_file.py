"""Small ONNX files written field by field as onnx.proto says, so that reading them is tested without another package."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def varint(value: int) -> bytes:
    """A number of variable length."""
    out = b""
    while True:
        value, low = value >> 7, value & 127
        out += bytes([low | (128 if value else 0)])
        if not value:
            return out


def number(field: int, value: int) -> bytes:
    """A numeric field."""
    return varint(field << 3) + varint(value)


def part(field: int, content: bytes | str) -> bytes:
    """A text, bytes or message field."""
    data = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(data)) + data


def tensor(name: str, values: np.ndarray) -> bytes:
    """TensorProto of 32-bit floats."""
    return b"".join(number(1, size) for size in values.shape) + number(2, 1) + part(8, name) + part(9, values.astype("<f4").tobytes())


def described(name: str, shape: Sequence[int | str]) -> bytes:
    """ValueInfoProto of floats; a word is an open dimension."""
    dimensions = b"".join(part(1, number(1, size) if isinstance(size, int) else part(2, size)) for size in shape)
    return part(1, name) + part(2, part(1, number(1, 1) + part(2, dimensions)))


def node(kind: str, inputs: Sequence[str], output: str, **integers: int) -> bytes:
    """NodeProto with integer attributes."""
    attributes = b"".join(part(5, part(1, name) + number(3, value) + number(20, 2)) for name, value in integers.items())
    return b"".join(part(1, name) for name in inputs) + part(2, output) + part(4, kind) + attributes


def write_pointwise(path: Path, shape: Sequence[int | str], weights: Sequence[float], bias: float, after: Sequence[str] = ("Sigmoid",)) -> Path:
    """A network that weighs the channels of each pixel, then does what `after` names; returns the path."""
    kernel = np.asarray(weights, np.float32).reshape(1, -1, 1, 1)
    names = ["x", "y0", *(f"y{i + 1}" for i in range(len(after)))]
    nodes = [node("Conv", ("x", "w", "b"), "y0"), *(node(kind, (names[i + 1],), names[i + 2]) for i, kind in enumerate(after))]
    graph = b"".join(part(1, one) for one in nodes) + part(2, "g") + part(5, tensor("w", kernel)) + part(5, tensor("b", np.float32([bias])))
    graph += part(11, described("x", shape)) + part(12, described(names[-1], (1, 1, *shape[2:])))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(number(1, 7) + part(8, part(1, "") + number(2, 11)) + part(7, graph))
    return path
