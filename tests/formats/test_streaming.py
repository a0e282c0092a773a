"""Tensor by tensor: what is written is what safetensors reads, whole or not at all; what is read is what was stored."""

import hashlib
import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from studio.cancellation import Stopped
from studio.errors import OutOfSpace, Unreadable
from studio.formats.streaming import DTYPES, Slot, Source, write_stream

STATE = {
    "byte": torch.arange(3, dtype=torch.uint8),
    "half": torch.randn(3, 5).half(),
    "brain": torch.randn(2).bfloat16(),
    "wide": torch.arange(4),
    "single": torch.randn(2, 2),
    "number": torch.tensor(4.6),
    "empty": torch.zeros(0),
}
SLOTS = {name: Slot(t.dtype, tuple(t.shape)) for name, t in STATE.items()}


def test_safetensors_itself_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    told: list[tuple[int, int]] = []
    digest = write_stream(path, SLOTS, STATE.__getitem__, {"title": "标题", "modelspec.hash_sha256": ""}, lambda done, total: told.append((done, total)) is None)
    found = load_file(path)
    assert found.keys() == STATE.keys() and all(torch.equal(found[k], v) and found[k].dtype == v.dtype for k, v in STATE.items())
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "title": "标题", "modelspec.hash_sha256": f"0x{digest}"}
    data = path.read_bytes()
    assert hashlib.sha256(data[8 + struct.unpack("<Q", data[:8])[0] :]).hexdigest() == digest
    size = sum(t.nbytes for t in STATE.values())
    assert told[0] == (0, size) and told[-1] == (size, size) and len(told) == len(STATE) + 1


@pytest.mark.parametrize("name", ["a.safetensors", "a.ckpt", "old.ckpt"])
def test_every_kind_of_file_is_read_tensor_by_tensor(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(STATE, path, metadata={"a": "b"})
    else:
        torch.save({"state_dict": STATE}, path, _use_new_zipfile_serialization=name != "old.ckpt")
    with Source(path) as source:
        assert source.slots == SLOTS and source.metadata == ({"a": "b"} if path.suffix == ".safetensors" else {})
        for key, tensor in STATE.items():
            found = source.read(key)
            assert torch.equal(found, tensor) and found.dtype == tensor.dtype and found.untyped_storage().nbytes() == tensor.nbytes


def test_a_stop_or_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"before")
    with pytest.raises(Stopped):
        write_stream(path, SLOTS, STATE.__getitem__, tell=lambda done, total: done < total)
    with pytest.raises(KeyError):
        write_stream(path, SLOTS, {}.__getitem__)
    with pytest.raises(ValueError, match="half was announced"):
        write_stream(path, SLOTS, lambda name: STATE[name].float() if name == "half" else STATE[name])
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_what_cannot_fit_is_not_begun(tmp_path: Path) -> None:
    with pytest.raises(OutOfSpace, match="nothing was written"):
        write_stream(tmp_path / "a.safetensors", {"huge": Slot(torch.float32, (2**40, 2**10))}, STATE.__getitem__)
    assert list(tmp_path.iterdir()) == []


def test_a_type_that_is_not_known_is_said(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F4", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0")
    assert "F4" not in DTYPES
    with pytest.raises(Unreadable, match="type F4"):
        Source(tmp_path / "a.safetensors")
