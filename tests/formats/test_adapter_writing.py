"""Adapters written: every kind read back through a reader of the test's own, and what must never reach a file."""

import errno
import hashlib
import json
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file
from torch import Tensor

from studio.errors import InputError, OutOfSpace
from studio.formats import adapter_writing
from studio.formats.adapter import Adapter, adapter_facts, read_adapter
from studio.formats.adapter_writing import write_adapter
from studio.formats.delta import Delta, kind_of
from studio.formats.embedding import Embedding
from studio.formats.provenance import Provenance

LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"


def rand(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))) * 0.1


def delta(alpha: float | None = None, factor: float | None = None, **tensors: Tensor) -> Delta:
    kind = kind_of(frozenset(tensors))
    assert kind is not None
    return Delta(kind, tensors, alpha, factor)


HADA = {"hada_w1_a": rand(8, 4), "hada_w1_b": rand(4, 6), "hada_w2_a": rand(8, 4), "hada_w2_b": rand(4, 6)}
KINDS = {
    "LoRA": (delta(3.0, lora_up=rand(8, 4), lora_down=rand(4, 6)), {"lora_up.weight", "lora_down.weight", "alpha"}, 3.0),
    "LoRA without alpha": (delta(lora_up=rand(8, 4), lora_down=rand(4, 6)), {"lora_up.weight", "lora_down.weight", "alpha"}, 4.0),
    "rsLoRA": (delta(8.0, 8.0 / 4**0.5, lora_up=rand(8, 4), lora_down=rand(4, 6)), {"lora_up.weight", "lora_down.weight", "alpha"}, 16.0),
    "DoRA": (delta(2.0, lora_up=rand(8, 4), lora_down=rand(4, 6), dora_scale=rand(1, 6).abs()), {"lora_up.weight", "lora_down.weight", "alpha", "dora_scale"}, 2.0),
    "LoCon": (delta(2.0, lora_up=rand(8, 4, 1, 1), lora_down=rand(4, 6, 3, 3), dora_scale=rand(1, 6).abs()), {"lora_up.weight", "lora_down.weight", "alpha", "dora_scale"}, 2.0),
    "Tucker": (
        delta(2.0, lora_up=rand(8, 4, 1, 1), lora_mid=rand(4, 4, 3, 3), lora_down=rand(4, 6, 1, 1)),
        {"lora_up.weight", "lora_mid.weight", "lora_down.weight", "alpha"},
        2.0,
    ),
    "LoHa": (delta(1.5, **HADA), {*HADA, "alpha"}, 1.5),
    "LoHa with a learned scalar": (delta(4.0, **HADA, scalar=torch.tensor(0.5)), {*HADA, "alpha"}, 2.0),
    "LoKr": (delta(2.0, lokr_w1=rand(2, 2), lokr_w2_a=rand(4, 2), lokr_w2_b=rand(2, 3)), {"lokr_w1", "lokr_w2_a", "lokr_w2_b", "alpha"}, 2.0),
    "LoKr with full matrices": (delta(7.0, 0.5, lokr_w1=rand(2, 2), lokr_w2=rand(4, 3)), {"lokr_w1", "lokr_w2", "alpha"}, 1.0),
    "IA3": (delta(weight=rand(6), on_input=torch.tensor(True)), {"weight", "on_input"}, None),
    "PEFT's IA3": (delta(ia3_l=1 + rand(1, 6)), {"weight", "on_input"}, None),
    "Full": (delta(diff=rand(8, 6), diff_b=rand(8)), {"diff", "diff_b"}, None),
}


def shaped(name: str) -> Tensor:
    """A weight for a kind to act on."""
    return rand(8, 6, 3, 3) if name in ("LoCon", "Tucker") else rand(8, 6)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_written_as_the_format_says_and_means_the_same(tmp_path: Path, name: str) -> None:
    held, keys, alpha = KINDS[name]
    path = tmp_path / "x.safetensors"
    write_adapter(path, Adapter("x", {LAYER: held}), dtype=torch.float32)
    tensors = load_file(path)
    assert set(tensors) == {f"{LAYER}.{key}" for key in keys}
    assert (tensors[f"{LAYER}.alpha"].ndim, float(tensors[f"{LAYER}.alpha"])) == (0, pytest.approx(alpha)) if alpha is not None else f"{LAYER}.alpha" not in tensors
    if "dora_scale" in keys:
        assert tensors[f"{LAYER}.dora_scale"].shape == ((1, 6, 1, 1) if name == "LoCon" else (1, 6))
    if "on_input" in keys:
        assert (tensors[f"{LAYER}.weight"].shape, bool(tensors[f"{LAYER}.on_input"])) == ((6,), True)
    weight, bias = shaped(name), rand(8)
    for before, after in zip(held.change(weight, bias), read_adapter(path).modules[LAYER].change(weight, bias), strict=True):
        assert (before is None) == (after is None)
        assert before is None or torch.allclose(before, after, atol=1e-6)


def test_a_norm_is_written(tmp_path: Path) -> None:
    write_adapter(tmp_path / "x.safetensors", Adapter("x", {"lora_unet_mid_block_resnets_0_norm1": delta(w_norm=rand(8), b_norm=rand(8))}))
    assert set(load_file(tmp_path / "x.safetensors")) == {"lora_unet_mid_block_resnets_0_norm1.w_norm", "lora_unet_mid_block_resnets_0_norm1.b_norm"}


@pytest.mark.parametrize(("alpha", "kept"), [(3.0, torch.float16), (0.1, torch.float32)])
def test_alpha_is_stored_as_it_was_given(tmp_path: Path, alpha: float, kept: torch.dtype) -> None:
    write_adapter(tmp_path / "x.safetensors", Adapter("x", {LAYER: delta(alpha, lora_up=rand(8, 4), lora_down=rand(4, 6))}))
    stored = load_file(tmp_path / "x.safetensors")[f"{LAYER}.alpha"]
    assert stored.dtype == kept
    assert float(stored) == pytest.approx(alpha, rel=1e-7)


def test_hashes_are_those_that_kohya_and_a1111_compute(tmp_path: Path) -> None:
    big = delta(4.0, lora_up=rand(1024, 256), lora_down=rand(256, 2048))
    path = tmp_path / "x.safetensors"
    write_adapter(path, Adapter("x", {LAYER: big}), Provenance(name="x", family="SD1", description="a picture of 雪", tags={"1_a": {"red": 3}}))
    facts = adapter_facts(path)
    whole = safetensors.torch.save(load_file(path), {key: value for key, value in facts.metadata.items() if key.startswith("ss_")})
    (length,) = struct.unpack("<Q", whole[:8])
    assert facts.metadata["sshs_model_hash"] == hashlib.sha256(whole[8 + length :]).hexdigest()
    assert facts.metadata["sshs_legacy_hash"] == hashlib.sha256(whole[0x100000 : 0x100000 + 0x10000]).hexdigest()[:8] != hashlib.sha256(b"").hexdigest()[:8]
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    assert facts.hash == hashlib.sha256(data[8 + length :]).hexdigest() == facts.metadata["modelspec.hash_sha256"].removeprefix("0x")
    assert [*json.loads(data[8 : 8 + length])["__metadata__"]] == sorted(facts.metadata)
    write_adapter(tmp_path / "y.safetensors", Adapter("x", {LAYER: big}), Provenance(name="x", family="SD1", description="a picture of 雪", tags={"1_a": {"red": 3}}))
    assert (tmp_path / "y.safetensors").read_bytes() == data


@pytest.mark.parametrize(("spoilt", "words"), [(torch.tensor(float("nan")), "NaN"), (torch.tensor(1e6), "fp32")])
def test_numbers_that_are_not_finite_never_replace_a_good_file(tmp_path: Path, spoilt: Tensor, words: str) -> None:
    path = tmp_path / "x.safetensors"
    write_adapter(path, Adapter("x", {LAYER: delta(lora_up=rand(8, 4), lora_down=rand(4, 6))}))
    before = path.read_bytes()
    with pytest.raises(InputError, match=words):
        write_adapter(path, Adapter("x", {LAYER: delta(lora_up=rand(8, 4) + spoilt, lora_down=rand(4, 6))}))
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (before, [path])


def test_a_full_disk_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise safetensors.SafetensorError(f"Error while serializing: I/O error: {errno.ENOSPC} No space left on device")

    monkeypatch.setattr(adapter_writing, "save_file", full)
    with pytest.raises(OutOfSpace, match=r"x\.safetensors was not written"):
        write_adapter(tmp_path / "x.safetensors", Adapter("x", {LAYER: delta(lora_up=rand(8, 4), lora_down=rand(4, 6))}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("embedding", "keys"),
    [
        (Embedding("hero", rand(2, 768)), {"bundle_emb.hero.string_to_param.*": (2, 768)}),
        (Embedding("hero", rand(2, 768 + 1280)), {"bundle_emb.hero.clip_l": (2, 768), "bundle_emb.hero.clip_g": (2, 1280)}),
        (Embedding("hero", rand(2, 40), first=16), {"bundle_emb.hero.clip_l": (2, 16), "bundle_emb.hero.clip_g": (2, 24)}),
    ],
    ids=["SD1", "SDXL", "small SDXL"],
)
def test_a_bundle_carries_the_embedding(tmp_path: Path, embedding: Embedding, keys: dict[str, tuple[int, ...]]) -> None:
    path = tmp_path / "x.safetensors"
    write_adapter(path, Adapter("x", {CONV: delta(lora_up=rand(8, 4, 1, 1), lora_down=rand(4, 6, 3, 3))}), bundle={"hero": embedding})
    assert {key: tuple(tensor.shape) for key, tensor in load_file(path).items() if key.startswith("bundle_emb")} == keys
    back = read_adapter(path)
    assert torch.equal(back.embeddings["hero"].vectors, embedding.vectors)
    write_adapter(path, back)
    assert torch.equal(read_adapter(path).embeddings["hero"].vectors, embedding.vectors)


def test_a_bundle_refuses_a_name_that_would_be_cut_off(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dot"):
        write_adapter(tmp_path / "x.safetensors", Adapter("x", {}), bundle={"he.ro": Embedding("he.ro", rand(2, 768))})
