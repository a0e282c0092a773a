"""Adapter files as other programs write them, built here from their layouts; what they say about themselves; what is refused."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from studio.errors import Unreadable
from studio.formats.adapter import adapter_facts, find_adapters, read_adapter

TO_Q = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
TO_K = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
Q_PROJ = "text_model_encoder_layers_0_self_attn_q_proj"


def lora(name: str, rank: int = 4, width: int = 320, out: int = 320, alpha: float | None = 2.0) -> dict[str, Tensor]:
    """The three tensors of one layer in kohya's layout."""
    tensors = {f"{name}.lora_down.weight": torch.ones(rank, width), f"{name}.lora_up.weight": torch.ones(out, rank)}
    return tensors | ({} if alpha is None else {f"{name}.alpha": torch.tensor(alpha)})


def saved(path: Path, tensors: dict[str, Tensor], **metadata: str) -> Path:
    save_file(tensors, path, metadata=metadata or None)
    return path


def test_kohyas_layout(tmp_path: Path) -> None:
    adapter = read_adapter(saved(tmp_path / "mine.safetensors", lora(f"lora_unet_{TO_Q}") | lora(f"lora_te_{Q_PROJ}", 8, 768, 768, None)))
    assert adapter.name == "mine" and adapter.kinds == ("LoRA",) and adapter.unknown == ()
    unet, text = adapter.modules[f"lora_unet_{TO_Q}"], adapter.modules[f"lora_te_{Q_PROJ}"]
    assert (unet.rank, unet.alpha, unet.scale) == (4, 2.0, 0.5)
    assert (text.rank, text.alpha, text.scale) == (8, None, 1.0)
    assert torch.equal(unet.change(torch.zeros(320, 320))[0], torch.full((320, 320), 2.0))


def test_an_alpha_of_zero_means_the_rank(tmp_path: Path) -> None:
    assert read_adapter(saved(tmp_path / "x.safetensors", lora(f"lora_unet_{TO_Q}", alpha=0.0))).modules[f"lora_unet_{TO_Q}"].scale == 1.0


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".bin"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_pickles_are_read_without_running_code(tmp_path: Path, suffix: str, wrapped: bool) -> None:
    tensors = lora(f"lora_unet_{TO_Q}")
    torch.save({"state_dict": tensors} if wrapped else tensors, tmp_path / f"x{suffix}")
    assert list(read_adapter(tmp_path / f"x{suffix}").modules) == [f"lora_unet_{TO_Q}"]
    assert adapter_facts(tmp_path / f"x{suffix}").rank == 4


DOTTED = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("down", "up", "module"),
    [
        (f"unet.{DOTTED}.lora_A.weight", f"unet.{DOTTED}.lora_B.weight", f"lora_unet_{TO_Q}"),
        (f"base_model.model.{DOTTED}.lora_A.weight", f"base_model.model.{DOTTED}.lora_B.weight", f"lora_unet_{TO_Q}"),
        (f"unet.base_model.model.{DOTTED}.lora_A.default.weight", f"unet.base_model.model.{DOTTED}.lora_B.default.weight", f"lora_unet_{TO_Q}"),
        (f"unet.{DOTTED}.lora.down.weight", f"unet.{DOTTED}.lora.up.weight", f"lora_unet_{TO_Q}"),
        (f"unet.{DOTTED.removesuffix('.to_q')}.processor.to_q_lora.down.weight", f"unet.{DOTTED.removesuffix('.to_q')}.processor.to_q_lora.up.weight", f"lora_unet_{TO_Q}"),
        (f"{DOTTED.removesuffix('.to_q')}.processor.to_out_lora.down.weight", f"{DOTTED.removesuffix('.to_q')}.processor.to_out_lora.up.weight", f"lora_unet_{TO_Q.removesuffix('q')}out_0"),
        (f"text_encoder.{TEXT}.lora_linear_layer.down.weight", f"text_encoder.{TEXT}.lora_linear_layer.up.weight", f"lora_te1_{Q_PROJ}"),
        (f"text_encoder_2.{TEXT}.lora_A.weight", f"text_encoder_2.{TEXT}.lora_B.weight", f"lora_te2_{Q_PROJ}"),
        ("text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.down.weight", "text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.up.weight", f"lora_te1_{Q_PROJ}"),
        (f"clip_g.transformer.{TEXT}.lora_down.weight", f"clip_g.transformer.{TEXT}.lora_up.weight", f"lora_te2_{Q_PROJ}"),
        ("diffusion_model.input_blocks.1.1.proj_in.lora_down.weight", "diffusion_model.input_blocks.1.1.proj_in.lora_up.weight", "lora_unet_input_blocks_1_1_proj_in"),
        (f"lycoris_{TO_Q}.lora_down.weight", f"lycoris_{TO_Q}.lora_up.weight", f"lycoris_{TO_Q}"),
    ],
)
def test_the_spellings_of_other_programs(tmp_path: Path, down: str, up: str, module: str) -> None:
    adapter = read_adapter(saved(tmp_path / "x.safetensors", {down: torch.ones(4, 8), up: torch.ones(6, 4)}))
    assert list(adapter.modules) == [module]
    assert torch.equal(adapter.modules[module].change(torch.zeros(6, 8))[0], torch.full((6, 8), 4.0))


def test_alphas_that_diffusers_keeps_in_the_metadata(tmp_path: Path) -> None:
    other = DOTTED.replace("to_q", "to_k")
    tensors = {f"unet.{name}.lora_{half}.weight": torch.ones(4, 4) for name in (DOTTED, other) for half in "AB"} | {f"text_encoder.{TEXT}.lora_{half}.weight": torch.ones(4, 4) for half in "AB"}
    facts = {"unet.r": 4, "unet.lora_alpha": 2, "unet.alpha_pattern": {other: 8}, "text_encoder.lora_alpha": 12}
    modules = read_adapter(saved(tmp_path / "x.safetensors", tensors, lora_adapter_metadata=json.dumps(facts))).modules
    assert {name: delta.scale for name, delta in modules.items()} == {f"lora_unet_{TO_Q}": 0.5, f"lora_unet_{TO_Q.replace('to_q', 'to_k')}": 2.0, f"lora_te1_{Q_PROJ}": 3.0}


def test_a_pattern_in_the_metadata_cannot_freeze_the_reader(tmp_path: Path) -> None:
    tensors = {f"unet.{DOTTED}.lora_{half}.weight": torch.ones(4, 4) for half in "AB"}
    facts = {"unet.r": 4, "unet.lora_alpha": 2, "unet.alpha_pattern": {r"(\w|\w\w|\.)+(?<=!)": 8}}
    with pytest.raises(Unreadable, match=r"alpha_pattern: .* takes too long"):
        read_adapter(saved(tmp_path / "x.safetensors", tensors, lora_adapter_metadata=json.dumps(facts)))


def test_alphas_that_peft_keeps_beside_the_file(tmp_path: Path) -> None:
    tensors = {f"base_model.model.{DOTTED}.lora_{half}.weight": torch.ones(4, 4) for half in "AB"}
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 16, "alpha_pattern": {}}))
    assert read_adapter(saved(tmp_path / "adapter_model.safetensors", tensors)).modules[f"lora_unet_{TO_Q}"].scale == 4.0
    (tmp_path / "adapter_config.json").write_text("{")
    assert read_adapter(tmp_path / "adapter_model.safetensors").modules[f"lora_unet_{TO_Q}"].scale == 1.0


@pytest.mark.parametrize("shape", [(6,), (1, 6, 1, 1)])
def test_the_lengths_of_pefts_dora_are_of_what_goes_out(tmp_path: Path, shape: tuple[int, ...]) -> None:
    weight = torch.eye(6)
    tensors = {
        f"unet.{DOTTED}.lora_A.weight": torch.zeros(2, 6),
        f"unet.{DOTTED}.lora_B.weight": torch.zeros(6, 2),
        f"unet.{DOTTED}.lora_magnitude_vector": torch.arange(1.0, 7).reshape(shape),
    }
    delta = read_adapter(saved(tmp_path / "x.safetensors", tensors)).modules[f"lora_unet_{TO_Q}"]
    assert torch.allclose((weight + delta.change(weight)[0]).norm(dim=1), torch.arange(1.0, 7))


KINDS = {
    "LoHa": {"hada_w1_a": (6, 4), "hada_w1_b": (4, 8), "hada_w2_a": (6, 4), "hada_w2_b": (4, 8)},
    "LoKr": {"lokr_w1": (2, 4), "lokr_w2_a": (3, 4), "lokr_w2_b": (4, 2)},
    "IA3": {"weight": (8,), "on_input": ()},
    "Full": {"diff": (6, 8)},
    "GLoRA": {"a1.weight": (4, 8), "a2.weight": (8, 4), "b1.weight": (4, 8), "b2.weight": (6, 4)},
    "OFT": {"oft_blocks": (2, 3, 3)},
    "DoRA": {"lora_down.weight": (4, 8), "lora_up.weight": (6, 4), "dora_scale": (1, 8)},
    "Norm": {"w_norm": (6,), "b_norm": (6,)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_facts_of_every_kind_come_from_the_header(tmp_path: Path, kind: str) -> None:
    path = saved(tmp_path / "x.safetensors", {f"lora_unet_{TO_Q}.{part}": torch.ones(shape) for part, shape in KINDS[kind].items()})
    facts = adapter_facts(path)
    assert (facts.kind, facts.modules, facts.rank) == (kind, 1, None if kind in ("IA3", "Full", "OFT", "Norm") else 4)
    assert read_adapter(path).kinds == ("LoRA" if kind == "DoRA" else kind,)


def test_facts_do_not_read_the_tensors(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.safetensors", lora(f"lora_unet_{TO_Q}") | {f"lora_unet_{TO_Q}.spoilt": torch.full((4,), float("nan"))}, sshs_model_hash="ab" * 32)
    path.write_bytes(path.read_bytes()[:-40] + b"\xff" * 40)
    assert adapter_facts(path).hash == "ab" * 32


def test_the_hash_is_that_of_the_bytes_after_the_header_whatever_the_metadata_say(tmp_path: Path) -> None:
    one, two = saved(tmp_path / "1.safetensors", lora(f"lora_unet_{TO_Q}"), ss_output_name="a"), saved(tmp_path / "2.safetensors", lora(f"lora_unet_{TO_Q}"), ss_output_name="long name")
    raw = one.read_bytes()
    assert adapter_facts(one).hash == adapter_facts(two).hash == hashlib.sha256(raw[8 + int.from_bytes(raw[:8], "little") :]).hexdigest() == read_adapter(one).hash
    assert adapter_facts(one, hashed=False).hash == ""


def test_an_adapter_is_found_by_its_file_or_by_its_alias(tmp_path: Path) -> None:
    one = saved(tmp_path / "v3-final.safetensors", lora(f"lora_unet_{TO_Q}"), ss_output_name="gnarl")
    two = saved(tmp_path / "Other.safetensors", lora(f"lora_unet_{TO_Q}"), ss_output_name="v3-final")
    (tmp_path / "broken.safetensors").write_bytes(b"x")
    files = [two, one, tmp_path / "broken.safetensors"]
    assert [find_adapters(files, name) for name in ("v3-final", "gnarl", "other", "nothing")] == [[one], [one], [two], []]
    assert read_adapter(one).alias == "gnarl" == adapter_facts(one).alias


@pytest.mark.parametrize(
    ("tensors", "metadata", "family"),
    [
        (lora(f"lora_unet_{TO_K}", width=768), {}, "SD1"),
        (lora(f"lora_unet_{TO_K}", width=1024), {}, "SD2"),
        (lora(f"lora_unet_{TO_K}", width=2048), {}, "SDXL"),
        (lora(f"lora_te_{Q_PROJ}", width=768), {}, "SD1"),
        (lora(f"lora_te_{Q_PROJ}", width=1024), {}, "SD2"),
        (lora(f"lora_te2_{Q_PROJ}", width=1280), {}, "SDXL"),
        (lora("lora_unet_input_blocks_7_1_transformer_blocks_9_attn1_to_q"), {}, "SDXL"),
        (lora(f"lora_unet_{TO_Q}"), {"ss_base_model_version": "sdxl_base_v1-0"}, "SDXL"),
        (lora(f"lora_unet_{TO_Q}"), {"ss_v2": "True"}, "SD2"),
        (lora(f"lora_unet_{TO_Q}"), {"ss_v2": "False"}, "SD1"),
        (lora(f"lora_unet_{TO_Q}"), {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "SDXL"),
        (lora(f"lora_unet_{TO_Q}"), {}, None),
        (lora("lora_unet_double_blocks_0_img_attn_proj"), {}, "Flux"),
        ({f"transformer.single_transformer_blocks.0.attn.to_q.lora_{half}.weight": torch.ones(4, 4) for half in "AB"}, {}, "Flux"),
    ],
)
def test_the_family_is_told_by_widths_and_names_before_metadata(tmp_path: Path, tensors: dict[str, Tensor], metadata: dict[str, str], family: str | None) -> None:
    path = saved(tmp_path / "x.safetensors", tensors, **metadata)
    assert adapter_facts(path).family == family == read_adapter(path).family


def test_embeddings_that_came_with_a_lora(tmp_path: Path) -> None:
    bundle = {
        "bundle_emb.hero.string_to_param.*": torch.ones(2, 768),
        "bundle_emb.my.hero.v2.clip_l": torch.ones(3, 768),
        "bundle_emb.my.hero.v2.clip_g": torch.ones(3, 1280),
    }
    path = saved(tmp_path / "x.safetensors", lora(f"lora_unet_{TO_Q}") | bundle)
    embeddings = read_adapter(path).embeddings
    assert {name: tuple(e.vectors.shape) for name, e in embeddings.items()} == {"hero": (2, 768), "my.hero.v2": (3, 2048)}
    assert set(adapter_facts(path).embeddings) == {"hero", "my.hero.v2"}


def test_what_is_not_understood_is_kept_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.safetensors", lora(f"lora_unet_{TO_Q}") | {"lora_unet_half.lora_up.weight": torch.ones(4, 4), "noise": torch.ones(1)})
    adapter = read_adapter(path)
    assert list(adapter.modules) == [f"lora_unet_{TO_Q}"] and set(adapter.unknown) == {"lora_unet_half.lora_up.weight", "noise"}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({}, "not a LoRA of a known kind"),
        ({"model.diffusion_model.out.0.weight": torch.ones(4), "x": torch.ones(1)}, "is a checkpoint.*models/Stable-diffusion"),
        ({"emb_params": torch.ones(2, 768)}, "is an embedding.*embeddings folder"),
        ({"clip_l": torch.ones(2, 768), "clip_g": torch.ones(2, 1280)}, "is an embedding"),
        ({"unet:0:up": torch.ones(2, 4), "unet:0:down": torch.ones(4, 2)}, "by position"),
        ({f"lora_unet_{TO_Q}.lora_up.weight": torch.ones(4, 4), "y": torch.ones(1)}, "not a LoRA of a known kind"),
        (lora(f"lora_unet_{TO_Q}") | {f"lora_unet_{TO_Q}.lora_up.weight": torch.full((320, 4), float("inf"))}, "NaN or infinity"),
    ],
)
def test_what_is_no_adapter_is_refused_in_words(tmp_path: Path, tensors: dict[str, Tensor], words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        read_adapter(saved(tmp_path / "x.safetensors", tensors))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x10\0\0\0\0\0\0\0{}", b"PK\x03\x04 not a zip", b"\xff" * 100])
def test_bytes_that_are_no_file_of_the_kind_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    for read in (read_adapter, adapter_facts):
        with pytest.raises(Unreadable, match="x"):
            read(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.safetensors", lora(f"lora_unet_{TO_Q}"))
    path.write_bytes(path.read_bytes()[:-5])
    for read in (read_adapter, adapter_facts):
        with pytest.raises(Unreadable, match=r"x\.safetensors"):
            read(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"no file 'gone\.safetensors'"):
        read_adapter(tmp_path / "gone.safetensors")


def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "canary",)

    torch.save({**lora(f"lora_unet_{TO_Q}"), "x": Bomb()}, tmp_path / "x.pt")
    with pytest.raises(Unreadable):
        read_adapter(tmp_path / "x.pt")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_files_of_eight_bit_floats_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {f"lora_unet_{TO_Q}.lora_down.weight": torch.ones(2, 8).to(dtype), f"lora_unet_{TO_Q}.lora_up.weight": torch.full((8, 2), 0.5).to(dtype)}
    delta = read_adapter(saved(tmp_path / "x.safetensors", tensors)).modules[f"lora_unet_{TO_Q}"]
    assert torch.equal(delta.change(torch.zeros(8, 8))[0], torch.ones(8, 8))
    tensors[f"lora_unet_{TO_Q}.lora_up.weight"] = torch.full((8, 2), float("nan")).to(dtype)
    with pytest.raises(Unreadable, match="NaN or infinity"):
        read_adapter(saved(tmp_path / "y.safetensors", tensors))


def peft_delta(tmp_path: Path, config: object, layer: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight and bias of a layer as PEFT merges an adapter into it, and as its file changes it here."""
    import copy

    import peft

    model = torch.nn.Module()
    model.down_blocks = torch.nn.Module()
    model.down_blocks.layer = layer
    before = copy.deepcopy(layer)
    wrapped = peft.get_peft_model(model, config)
    dice = torch.Generator().manual_seed(3)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name or "oft_" in name:
            parameter.data = torch.randn(parameter.shape, generator=dice) * 0.05
    wrapped.save_pretrained(tmp_path)
    adapter = read_adapter(tmp_path / "adapter_model.safetensors")
    assert adapter.unknown == ()
    (delta,) = adapter.modules.values()
    weight, bias = delta.change(before.weight, before.bias)
    merged = wrapped.merge_and_unload().down_blocks.layer
    assert torch.allclose(before.weight + weight, merged.weight, atol=1e-5)
    assert not torch.allclose(before.weight, merged.weight, atol=1e-3)
    return (torch.zeros(()) if bias is None else before.bias + bias), merged.bias


@pytest.mark.parametrize("knobs", [{"oft_block_size": 4}, {"oft_block_size": 4, "block_share": True}, {"r": 2, "oft_block_size": 0}], ids=str)
@pytest.mark.parametrize("layer", [torch.nn.Linear(8, 6), torch.nn.Conv2d(8, 6, 1)], ids=["linear", "convolution"])
def test_rotations_of_the_input_are_those_of_peft(tmp_path: Path, knobs: dict, layer: torch.nn.Module) -> None:
    import copy

    peft = pytest.importorskip("peft")
    peft_delta(tmp_path, peft.OFTConfig(target_modules=["layer"], **knobs), copy.deepcopy(layer))


@pytest.mark.parametrize("layer", [torch.nn.Linear(8, 6), torch.nn.Conv2d(8, 6, 3)], ids=["linear", "convolution"])
def test_the_bias_of_pefts_second_half_is_added(tmp_path: Path, layer: torch.nn.Module) -> None:
    import copy

    peft = pytest.importorskip("peft")
    ours, theirs = peft_delta(tmp_path, peft.LoraConfig(r=2, lora_alpha=6, lora_bias=True, target_modules=["layer"]), copy.deepcopy(layer))
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_scaled_rotations_of_onetrainer(tmp_path: Path) -> None:
    vectors = torch.randn(2, 6, generator=torch.Generator().manual_seed(1)) * 0.1
    plain = {f"lora_unet_{TO_Q}.oft_R.weight": vectors / (2 * 3**0.5)}
    scaled = {f"lora_unet_{TO_Q}.oft_R.weight": vectors, f"lora_unet_{TO_Q}.oft_R.scaled_oft": torch.tensor(True)}
    changes = [read_adapter(saved(tmp_path / f"{n}.safetensors", t)).modules[f"lora_unet_{TO_Q}"].change(torch.eye(8))[0] for n, t in enumerate((plain, scaled))]
    assert torch.allclose(*changes, atol=1e-7) and changes[0].abs().max() > 0.01


def test_old_lycoris_keeps_the_rotations_themselves(tmp_path: Path) -> None:
    quarter = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    delta = read_adapter(saved(tmp_path / "x.safetensors", {f"lora_unet_{TO_Q}.oft_diag": quarter.repeat(3, 1, 1)})).modules[f"lora_unet_{TO_Q}"]
    weight = torch.arange(24.0).reshape(6, 4)
    turned = weight + delta.change(weight)[0]
    assert torch.equal(turned[0::2], -weight[1::2]) and torch.equal(turned[1::2], weight[0::2])
    from studio.formats.adapter_writing import write_adapter

    adapter = read_adapter(tmp_path / "x.safetensors")
    write_adapter(tmp_path / "again.safetensors", adapter, dtype=torch.float32)
    assert torch.equal(read_adapter(tmp_path / "again.safetensors").modules[f"lora_unet_{TO_Q}"].change(weight)[0], delta.change(weight)[0])
