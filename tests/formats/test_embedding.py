"""Embedding files, read back by a reader of its own and refused when they are spoilt or dangerous."""

import io
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from studio.errors import InputError, Unreadable
from studio.formats.embedding import Embedding, read_embedding, write_embedding


class Strict(pickle.Unpickler):
    """A1111's safe loader in short: tensors of plain storages, nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Only what a tensor of floats needs."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *rest: {"storage": storage, "offset": offset, "size": tuple(size), "stride": tuple(stride)}
        if (module, name) == ("torch", "FloatStorage"):
            return "float32"
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")

    def persistent_load(self, saved: tuple) -> dict[str, Any]:
        """A storage as what is said about it."""
        return {"type": saved[1], "key": saved[2], "device": saved[3], "count": saved[4]}


def legacy(path: Path) -> tuple[dict[str, Any], list[float]]:
    """The pickled dict and the floats of a .pt in torch's older layout: magic, protocol, facts, object, keys, then raw storages."""
    file = io.BytesIO(path.read_bytes())
    assert Strict(file).load() == 0x1950A86A20F9469CFC6C
    assert Strict(file).load() == 1001
    assert Strict(file).load()["little_endian"] is True
    data = Strict(file).load()
    keys = Strict(file).load()
    assert len(keys) == 1
    (count,) = struct.unpack("<q", file.read(8))
    return data, list(struct.unpack(f"<{count}f", file.read(4 * count)))


def made(**changes: Any) -> Embedding:
    return Embedding(**{"name": "hero", "vectors": torch.arange(6.0).reshape(2, 3) / 7, "step": 12, "checkpoint_hash": "0123456789", "checkpoint_name": "tiny", **changes})


def test_a_pt_is_what_a1111_writes_and_its_safe_loader_takes(tmp_path: Path) -> None:
    path = tmp_path / "hero.pt"
    write_embedding(path, made(vectors=torch.nn.Parameter(made().vectors)))
    assert not path.read_bytes().startswith(b"PK")
    data, floats = legacy(path)
    tensor = data.pop("string_to_param")["*"]
    assert data == {"string_to_token": {"*": 265}, "name": "hero", "step": 12, "sd_checkpoint": "0123456789", "sd_checkpoint_name": "tiny"}
    assert (tensor["size"], tensor["stride"], tensor["offset"]) == ((2, 3), (3, 1), 0)
    assert tensor["storage"]["type"] == "float32" and tensor["storage"]["device"] == "cpu"
    assert floats == pytest.approx([i / 7 for i in range(6)])
    assert torch.load(path, weights_only=True)["step"] == 12


def test_only_the_vectors_are_written_not_the_tensor_they_are_cut_from(tmp_path: Path) -> None:
    write_embedding(tmp_path / "hero.pt", made(vectors=torch.zeros(1000, 3)[:2]))
    assert len(legacy(tmp_path / "hero.pt")[1]) == 6


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".safetensors"])
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"hero{suffix}"
    write_embedding(path, made())
    back = read_embedding(path)
    assert torch.equal(back.vectors, made().vectors) and back.vectors.dtype == torch.float32
    assert (back.name, back.step, back.width, back.checkpoint_hash, back.checkpoint_name) == ("hero", 12, 3, "0123456789", "tiny")


def test_safetensors_hold_one_tensor_called_emb_params(tmp_path: Path) -> None:
    write_embedding(tmp_path / "hero.safetensors", made())
    assert {k: v.shape for k, v in load_file(tmp_path / "hero.safetensors").items()} == {"emb_params": (2, 3)}


def test_the_file_name_is_the_word_whatever_is_written_inside(tmp_path: Path) -> None:
    write_embedding(tmp_path / "hero-500.pt", made())
    assert read_embedding(tmp_path / "hero-500.pt").name == "hero-500"


@pytest.mark.parametrize(
    "data",
    [
        {"string_to_param": {"*": torch.ones(2, 3)}, "step": None},
        {"<cat-toy>": torch.ones(2, 3)},
        {"emb_params": torch.ones(2, 3, dtype=torch.float16)},
    ],
    ids=["a1111", "diffusers concept", "kohya"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_other_programs_are_read(tmp_path: Path, data: dict, zipped: bool) -> None:
    torch.save(data, tmp_path / "hero.pt", _use_new_zipfile_serialization=zipped)
    back = read_embedding(tmp_path / "hero.pt")
    assert torch.equal(back.vectors, torch.ones(2, 3)) and back.step is None


def test_a_file_of_2022_with_a_parameter_dict_is_read(tmp_path: Path) -> None:
    torch.save({"string_to_param": torch.nn.ParameterDict({"*": torch.ones(2, 3)})}, tmp_path / "hero.pt")
    assert torch.equal(read_embedding(tmp_path / "hero.pt").vectors, torch.ones(2, 3))


@pytest.mark.parametrize(
    ("tensors", "shape"),
    [({"emb_params": torch.ones(4)}, (1, 4)), ({"emp_params": torch.ones(2, 4), "emp_params_out": torch.ones(2, 4)}, (2, 4)), ({"<x>": torch.ones(2, 4)}, (2, 4))],
)
def test_safetensors_of_other_programs_are_read(tmp_path: Path, tensors: dict, shape: tuple) -> None:
    save_file(tensors, tmp_path / "hero.safetensors")
    assert read_embedding(tmp_path / "hero.safetensors").vectors.shape == shape


class Bomb:
    """A pickle that would make a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, zipped: bool) -> None:
    canary = tmp_path / "canary"
    torch.save({"string_to_param": {"*": torch.ones(1, 3)}, "x": Bomb(canary)}, tmp_path / "hero.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(Unreadable):
        read_embedding(tmp_path / "hero.pt")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"string_to_param": {"*": torch.tensor([[1.0, float("nan")]])}}, "NaN"),
        ({"string_to_param": {"*": torch.tensor([[1.0, float("inf")]])}}, "infinity"),
        ({"string_to_param": {"*": torch.ones(0, 3)}}, "no vectors"),
        ({"string_to_param": {"*": torch.ones(76, 3)}}, "76 vectors"),
        ({"string_to_param": {"*": torch.ones(2, 3, 3)}}, "shape"),
        ({"string_to_param": {"a": torch.ones(1, 3), "b": torch.ones(1, 3)}}, "2 words"),
        ({"string_to_param": {"*": torch.ones(2, 3, dtype=torch.int64)}}, "vectors are expected"),
        ({"clip_l": torch.ones(1, 768), "clip_g": torch.ones(2, 1280)}, "1 vectors for one text encoder and 2"),
        ({f"{side}{n:02d}": torch.ones(1, 768) for side in ("IN", "OUT") for n in range(12)}, "every layer"),
        ({"lora_up": torch.ones(1, 3), "lora_down": torch.ones(1, 3)}, "neither"),
        ({}, "neither"),
        ([torch.ones(1, 3)], "list"),
    ],
)
def test_a_file_that_is_no_embedding_is_refused_in_words(tmp_path: Path, data: Any, word: str) -> None:
    torch.save(data, tmp_path / "hero.pt")
    with pytest.raises(Unreadable, match=word):
        read_embedding(tmp_path / "hero.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02", b"PK\x03\x04 not a zip", b"\xff" * 100])
def test_bytes_that_are_no_file_of_the_kind_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"hero{suffix}"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match="hero"):
        read_embedding(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"hero{suffix}"
    write_embedding(path, made())
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(Unreadable, match="hero"):
        read_embedding(path)


def test_spoilt_vectors_never_replace_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "hero.pt"
    write_embedding(path, made())
    before = path.read_bytes()
    with pytest.raises(InputError, match="not finite"):
        write_embedding(path, made(vectors=torch.full((2, 3), float("nan"))))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_an_embedding_for_sdxl_has_the_vectors_of_both_encoders_side_by_side(tmp_path: Path, suffix: str) -> None:
    tensors = {"clip_g": torch.full((2, 1280), 2.0), "clip_l": torch.full((2, 768), 1.0, dtype=torch.float16)}
    path = tmp_path / f"hero{suffix}"
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    back = read_embedding(path)
    assert back.vectors.shape == (2, 2048) and back.width == 2048
    assert back.vectors[:, :768].unique().tolist() == [1.0] and back.vectors[:, 768:].unique().tolist() == [2.0]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_an_embedding_for_sdxl_is_written_as_clip_l_and_clip_g_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"hero{suffix}"
    embedding = made(vectors=torch.arange(2.0 * 2048).reshape(2, 2048))
    write_embedding(path, embedding)
    held = load_file(path) if suffix == ".safetensors" else torch.load(path, weights_only=True)
    assert {k: tuple(v.shape) for k, v in held.items()} == {"clip_l": (2, 768), "clip_g": (2, 1280)}
    assert torch.equal(torch.cat([held["clip_l"], held["clip_g"]], 1), embedding.vectors)
    assert torch.equal(read_embedding(path).vectors, embedding.vectors)


def test_a_small_model_with_two_encoders_keeps_its_own_split(tmp_path: Path) -> None:
    write_embedding(tmp_path / "hero.safetensors", made(vectors=torch.ones(2, 10), first=4))
    assert {k: tuple(v.shape) for k, v in load_file(tmp_path / "hero.safetensors").items()} == {"clip_l": (2, 4), "clip_g": (2, 6)}
    assert read_embedding(tmp_path / "hero.safetensors").first == 4


def test_the_outputs_that_onetrainer_adds_do_not_matter(tmp_path: Path) -> None:
    save_file({"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280), "clip_l_out": torch.zeros(1, 768), "clip_g_out": torch.zeros(1, 1280)}, tmp_path / "hero.safetensors")
    assert read_embedding(tmp_path / "hero.safetensors").vectors.shape == (1, 2048)


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_diffusers_two_files_for_sdxl_are_one_embedding(tmp_path: Path, suffix: str) -> None:
    for name, width in (("learned_embeds", 768), ("learned_embeds_2", 1280)):
        tensors = {"<hero>": torch.full((2, width), float(width))}
        path = tmp_path / f"{name}{suffix}"
        save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    back = read_embedding(tmp_path / f"learned_embeds{suffix}")
    assert back.vectors.shape == (2, 2048) and back.vectors[0, [0, 767, 768, 2047]].tolist() == [768, 768, 1280, 1280]
    with pytest.raises(Unreadable, match=r"second text encoder.*learned_embeds"):
        read_embedding(tmp_path / f"learned_embeds_2{suffix}")


def test_a_neighbour_called_2_that_is_an_embedding_of_its_own_stays_apart(tmp_path: Path) -> None:
    for name in ("hero", "hero_2"):
        save_file({"emb_params": torch.ones(2, 768)}, tmp_path / f"{name}.safetensors")
    (tmp_path / "other_2.safetensors").write_bytes(b"damaged")
    save_file({"emb_params": torch.ones(2, 768)}, tmp_path / "other.safetensors")
    assert [read_embedding(tmp_path / f"{n}.safetensors").width for n in ("hero", "hero_2", "other")] == [768] * 3


def test_what_kohya_notes_about_the_training_is_told(tmp_path: Path) -> None:
    facts = {"ss_steps": "1600", "ss_new_sd_model_hash": "0123456789abcdef", "ss_sd_model_name": "v1-5-pruned.safetensors"}
    save_file({"emb_params": torch.ones(1, 768)}, tmp_path / "hero.safetensors", metadata=facts)
    back = read_embedding(tmp_path / "hero.safetensors")
    assert (back.step, back.checkpoint_hash, back.checkpoint_name) == (1600, "0123456789", "v1-5-pruned")
