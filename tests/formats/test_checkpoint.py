"""Checkpoint files: headers without tensors, tensors without code, what a file says about itself, writing one, remembered hashes."""

import hashlib
import json
import os
import pickle
import struct
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from studio.errors import OutOfSpace, Unreadable
from studio.formats.checkpoint import Facts, Weights, read_facts, read_header, write_checkpoint
from studio.formats.hashes import known_hash, remembered_sha256
from studio.formats.keys import UNET, VAE, Part

STATE = {"model.diffusion_model.out.2.bias": torch.arange(4.0), "first_stage_model.quant_conv.weight": torch.randn(8, 8, 1, 1), "cond_stage_model.transformer.n": torch.ones(2, dtype=torch.int64)}


class Bomb:
    """Runs a command of the system when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


@pytest.mark.parametrize("name", ["a.safetensors", "a.ckpt", "old.ckpt"])
def test_shapes_and_tensors_of_every_kind_of_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(STATE, path, metadata={"modelspec.title": "标题"})
    else:
        torch.save({"state_dict": STATE, "epoch": 3}, path, _use_new_zipfile_serialization=name != "old.ckpt")
    weights = Weights(path)
    assert weights.shapes == read_header(path) == {key: tuple(value.shape) for key, value in STATE.items()}
    assert weights.metadata == ({"modelspec.title": "标题"} if path.suffix == ".safetensors" else {})
    assert weights.read("first_stage_model.").keys() == {"first_stage_model.quant_conv.weight"}
    assert all(torch.equal(tensor, STATE[key]) for key, tensor in weights.read().items())


def test_the_header_is_read_without_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**16, 2**16], "data_offsets": [0, 2**34]}}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 2**34)
    assert read_header(path) == {"a": (2**16, 2**16)}


def test_a_safetensors_file_under_the_name_of_a_torch_file_is_read(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "really-safetensors.ckpt")
    assert torch.equal(Weights(tmp_path / "really-safetensors.ckpt").read()["model.diffusion_model.out.2.bias"], torch.arange(4.0))


def test_a_torch_file_under_the_name_of_safetensors_is_refused_with_the_right_name(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE}, tmp_path / "really-torch.safetensors")
    with pytest.raises(Unreadable, match=r"not a safetensors file.*name it \.ckpt"):
        Weights(tmp_path / "really-torch.safetensors")


def test_a_pickle_that_calls_the_system_is_refused_by_name_and_runs_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    torch.save({"state_dict": {"a": Bomb(f"touch {trace}")}}, tmp_path / "zipped.ckpt")
    with pytest.raises(Unreadable, match=r"posix\.system|nt\.system") as caught:
        Weights(tmp_path / "zipped.ckpt")
    assert "Nothing in it was run" in caught.value.hint
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Bomb(f"touch {trace}"), protocol=2))
    with pytest.raises(Unreadable, match=r"posix\.system|nt\.system"):
        Weights(tmp_path / "plain.ckpt")
    assert not trace.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_what_lightning_left_in_the_first_checkpoints_is_passed_over_without_being_imported(tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    name = "pytorch_lightning.callbacks.model_checkpoint"
    module = types.ModuleType(name)
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": name})
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    monkeypatch.setitem(sys.modules, name, module)
    torch.save({"callbacks": {module.ModelCheckpoint: {"best": np.float64(0.5)}}, "state_dict": STATE}, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, name)
    assert Weights(tmp_path / "a.ckpt").shapes.keys() == STATE.keys()
    assert name not in sys.modules


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
@pytest.mark.parametrize("name", ["cut.safetensors", "cut.ckpt"])
def test_a_file_that_is_cut_off_is_refused_from_its_header(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    if name.endswith("ckpt"):
        torch.save({"state_dict": STATE}, path)
    else:
        save_file(STATE, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(Unreadable) as caught:
        Weights(path)
    assert name in caught.value.message


@pytest.mark.parametrize("content", [{"state_dict": "words"}, {"state_dict": None}, [1, 2], 7, {1: torch.ones(1)}])
def test_a_pickle_without_named_tensors_has_none(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.ckpt")
    assert Weights(tmp_path / "a.ckpt").shapes == {}


@pytest.mark.parametrize(
    ("yaml", "metadata", "marker", "facts"),
    [
        (None, {}, None, Facts()),
        ('model:\n  params:\n    parameterization: "v"\n', {}, None, Facts("v_prediction")),
        ("    parameterization: v # velocity", {}, None, Facts("v_prediction")),
        ("model:\n  params:\n    linear_start: 0.00085\n", {"modelspec.prediction_type": "v"}, None, Facts("epsilon")),
        ("    parameterization: eps", {}, "v_pred", Facts("epsilon")),
        (None, {"modelspec.prediction_type": "v"}, None, Facts("v_prediction")),
        (None, {"modelspec.prediction_type": "epsilon", "modelspec.architecture": "stable-diffusion-v2-768-v"}, None, Facts("epsilon")),
        (None, {"modelspec.architecture": "stable-diffusion-v2-768-v"}, None, Facts("v_prediction")),
        (None, {"modelspec.architecture": "stable-diffusion-v2-512"}, None, Facts()),
        (None, {}, "v_pred", Facts("v_prediction")),
        (None, {}, "ztsnr", Facts(None, True)),
    ],
)
def test_what_a_checkpoint_says_it_predicts(tmp_path: Path, yaml: str | None, metadata: dict, marker: str | None, facts: Facts) -> None:
    path = tmp_path / "my model.v2.safetensors"
    save_file(STATE | ({marker: torch.zeros(0)} if marker else {}), path, metadata=metadata)
    if yaml is not None:
        (tmp_path / "my model.v2.yaml").write_text(yaml, encoding="utf-8")
    assert read_facts(Weights(path)) == facts


def test_a_yaml_of_strange_bytes_says_nothing_of_velocity(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "a.safetensors")
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00parameterization")
    assert read_facts(Weights(tmp_path / "a.safetensors")).prediction == "epsilon"


@pytest.mark.parametrize("half", [True, False])
def test_a_written_checkpoint_read_by_the_formats_own_library(tmp_path: Path, half: bool) -> None:
    unet = {"conv_in.weight": torch.randn(32, 4, 3, 3), "time_embedding.linear_1.bias": torch.randn(8)}
    vae = {"encoder.mid_block.attentions.0.to_q.weight": torch.randn(8, 8)}
    text = {"embeddings.token_embedding.weight": torch.randn(10, 4).T, "embeddings.position_ids": torch.arange(77)}
    path = tmp_path / "out" / "new.safetensors"
    write_checkpoint(path, {UNET: unet, VAE: vae, Part("clip", "cond_stage_model.transformer."): text}, half, {"modelspec.title": "new"}, ["v_pred"])
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "modelspec.title": "new"}
        found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    number = torch.float16 if half else torch.float32
    assert {key: (tuple(value.shape), value.dtype) for key, value in found.items()} == {
        "model.diffusion_model.input_blocks.0.0.weight": ((32, 4, 3, 3), number),
        "model.diffusion_model.time_embed.0.bias": ((8,), number),
        "first_stage_model.encoder.mid.attn_1.q.weight": ((8, 8, 1, 1), number),
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": ((4, 10), number),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": ((77,), torch.int64),
        "v_pred": ((0,), torch.float32),
    }
    assert torch.equal(found["model.diffusion_model.input_blocks.0.0.weight"], unet["conv_in.weight"].to(number))


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch
    from safetensors import SafetensorError

    def full(*_args: object, **_kwargs: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    path = tmp_path / "a.safetensors"
    path.write_bytes(b"before")
    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OutOfSpace, match="disk is full"):
        write_checkpoint(path, {UNET: {"conv_in.weight": torch.ones(1)}})
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    assert path.read_bytes() == b"before"


def test_a_hash_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, book = tmp_path / "模型.safetensors", tmp_path / "cache" / "hashes.json"
    path.write_bytes(b"one")
    assert known_hash(path, book) is None
    first = remembered_sha256(path, book)
    assert first == hashlib.sha256(b"one").hexdigest()
    assert known_hash(path, book) == first[:10]
    with monkeypatch.context() as patch:
        patch.setattr("studio.formats.hashes.sha256", lambda _path: pytest.fail("it was read again"))
        assert remembered_sha256(path, book) == first
    path.write_bytes(b"other")
    assert known_hash(path, book) is None
    assert remembered_sha256(path, book) == hashlib.sha256(b"other").hexdigest()


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"x": 1}'])
def test_a_damaged_book_of_hashes_is_written_anew(tmp_path: Path, content: str) -> None:
    path, book = tmp_path / "a", tmp_path / "hashes.json"
    path.write_bytes(b"a")
    book.write_text(content)
    assert remembered_sha256(path, book) == hashlib.sha256(b"a").hexdigest()
    assert list(json.loads(book.read_text())) == [str(path)]


def test_files_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    book = tmp_path / "hashes.json"
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x")
    remembered_sha256(tmp_path / "a", book)
    (tmp_path / "a").unlink()
    remembered_sha256(tmp_path / "b", book)
    assert list(json.loads(book.read_text())) == [str(tmp_path / "b")]
    assert known_hash(tmp_path / "a", book) is None
