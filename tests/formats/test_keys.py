"""Names of layers: the original layout, described apart from the studio's tables, to diffusers' and back, small with numbers and in published sizes without."""

import pytest
import torch
from torch import nn

from studio.diffusion.assembly import empty_unet, empty_vae, shapes_of
from studio.diffusion.blueprints import unet_config, vae_config
from studio.diffusion.families import FAMILIES, recognise
from studio.formats.keys import UNET, VAE, Levels, Part, State, levels_of, text_name, translate, unet_table
from studio.formats.kohya_keys import kohya_name, module_paths
from tests.diffusion.originals import FULL, KINDS, Kind, Parts, assemble, make, original, text_roots, unet_key

ALSO = {"alphas_cumprod", "model_ema.decay"}
"""What real files hold beside the networks."""


def parts_of(kind: Kind) -> dict[str, Part]:
    """The family's parts, by the folder's name in the diffusers layout."""
    return next(family for family in FAMILIES if family.name == kind.name).parts


def modules_of(parts: Parts) -> dict[str, nn.Module]:
    """The networks under the same names."""
    return {"unet": parts.unet, "vae": parts.vae, **dict(zip(("text_encoder", "text_encoder_2"), parts.texts, strict=False))}


@pytest.fixture(scope="module", params=FULL, ids=lambda kind: kind.name)
def full(request: pytest.FixtureRequest) -> Parts:
    """A published architecture without numbers."""
    with torch.device("meta"):
        return assemble(request.param)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_tensor_comes_back_bit_for_bit(kind: Kind) -> None:
    state = original(make(kind))
    back: State = {}
    for part in parts_of(kind).values():
        back |= part.to_original(part.to_diffusers(state))
    assert state.keys() - back.keys() == ALSO
    assert back.keys() <= state.keys()
    for key, tensor in back.items():
        assert tensor.dtype == state[key].dtype
        assert torch.equal(tensor, state[key]), key


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_diffusers_names_are_the_modules_own(kind: Kind) -> None:
    parts = make(kind)
    state = original(parts)
    for name in ("unet", "vae"):
        found, wanted = parts_of(kind)[name].to_diffusers(state), modules_of(parts)[name].state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_every_key_of_a_published_architecture_is_accounted_for(full: Parts) -> None:
    state = original(full)
    left = set(state) - ALSO
    for name, part in parts_of(full.kind).items():
        converted = part.to_diffusers(state)
        back = part.to_original(converted)
        assert shapes_of(back) == {key: tuple(state[key].shape) for key in part.names(state)}
        left -= back.keys()
        module = modules_of(full)[name]
        if name in ("unet", "vae"):
            assert shapes_of(converted) == shapes_of(module.state_dict())
        elif full.kind.texts[name == "text_encoder_2"] == "clip":
            assert converted.keys() == {text_name(key) for key in module.state_dict()} | {"text_model.embeddings.position_ids"}
        else:
            assert len(converted) == len(module.state_dict()) + 1 + 4 * len(module.transformer.resblocks)
    assert left == set()


def test_the_settings_of_a_published_architecture_follow_from_its_shapes(full: Parts) -> None:
    shapes = shapes_of(original(full))
    family = recognise("published", shapes)
    assert family.name == full.kind.name
    unet = {k.removeprefix(UNET.root): v for k, v in shapes.items() if k.startswith(UNET.root)}
    config = unet_config(family, unet, full.kind.pooled if len(full.kind.texts) == 2 else 0)
    assert shapes_of(empty_unet(config).state_dict()) == shapes_of(full.unet.state_dict())
    heads = config["attention_head_dim"]
    assert heads == full.kind.heads
    assert config["cross_attention_dim"] == family.context_width
    vae = {k.removeprefix(VAE.root): v for k, v in shapes.items() if k.startswith(VAE.root)}
    assert shapes_of(empty_vae(vae_config(vae, family.latent_scale)).state_dict()) == shapes_of(full.vae.state_dict())


COUNTS = {"SD1": (686, 248, 197), "SD2": (686, 248, 294), "SDXL": (1680, 248, 197 + 390)}
"""Tensors of UNet, autoencoder and text encoders in the published files."""


@pytest.mark.parametrize(("name", "counts"), COUNTS.items())
def test_a_published_architecture_has_as_many_tensors_as_the_published_file(name: str, counts: tuple[int, ...]) -> None:
    kind = next(kind for kind in FULL if kind.name == name)
    with torch.device("meta"):
        state = original(assemble(kind))
    texts = sum(key.startswith(tuple(root.removesuffix("text_model.") for root in text_roots(kind))) for key in state)
    assert (len(UNET.names(state)), len(VAE.names(state)), texts) == counts


@pytest.mark.parametrize(
    ("levels", "here", "there"),
    [
        ((True, True, True, False), "input_blocks.3.0.op.weight", "down_blocks.0.downsamplers.0.conv.weight"),
        ((True, True, True, False), "input_blocks.11.0.in_layers.2.bias", "down_blocks.3.resnets.1.conv1.bias"),
        ((True, True, True, False), "middle_block.2.out_layers.3.weight", "mid_block.resnets.1.conv2.weight"),
        ((True, True, True, False), "output_blocks.2.1.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"),
        ((True, True, True, False), "output_blocks.5.2.conv.bias", "up_blocks.1.upsamplers.0.conv.bias"),
        ((True, True, True, False), "output_blocks.3.1.proj_in.weight", "up_blocks.1.attentions.0.proj_in.weight"),
        ((False, True, True), "input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight", "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight"),
        ((False, True, True), "output_blocks.2.2.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"),
        ((False, True, True), "output_blocks.8.0.skip_connection.weight", "up_blocks.2.resnets.2.conv_shortcut.weight"),
        ((False, True, True), "label_emb.0.2.weight", "add_embedding.linear_2.weight"),
        ((False, True, True), "time_embed.0.weight", "time_embedding.linear_1.weight"),
        ((False, True, True), "out.0.bias", "conv_norm_out.bias"),
    ],
)
def test_names_as_the_reference_gives_them(levels: tuple[bool, ...], here: str, there: str) -> None:
    table = unet_table(Levels((2,) * len(levels), levels))
    assert translate(here, table) == there
    assert translate(there, {b: a for a, b in table.items()}) == here


@pytest.mark.parametrize("resnets", [1, 2, 3])
@pytest.mark.parametrize("attends", [(True,), (False, True), (True, True, False, True, False)])
def test_any_number_of_levels_and_resnets_converts_one_to_one(resnets: int, attends: tuple[bool, ...]) -> None:
    levels = Levels((resnets,) * len(attends), attends)
    table = unet_table(levels)
    assert len(set(table.values())) == len(table)
    real = [f"{name}.weight" for name, there in table.items() if ".attentions." not in there or "mid" in there or there.startswith("up") or attends[int(there.split(".")[1])]]
    assert levels_of(real) == levels
    assert levels_of([translate(name, table) or name for name in real]) == levels


def test_what_is_not_known_goes_through_and_comes_back() -> None:
    state = {"model.diffusion_model.something.new": torch.ones(2), "model.diffusion_model.input_blocks.0.0.weight": torch.ones(1)}
    there = UNET.to_diffusers(state)
    assert there.keys() == {"something.new", "conv_in.weight"}
    assert UNET.to_original(there).keys() == state.keys()


@pytest.mark.parametrize("name", ["encoder.layers.0.mlp.fc1.weight", "text_model.encoder.layers.0.mlp.fc1.weight"])
def test_a_text_encoders_names_are_one_whatever_transformers_calls_them(name: str) -> None:
    assert text_name(name) == "text_model.encoder.layers.0.mlp.fc1.weight"
    assert text_name(name, flat=True) == "encoder.layers.0.mlp.fc1.weight"
    assert text_name("text_projection.weight") == "text_projection.weight"


@pytest.mark.parametrize(
    ("xl", "part", "path", "name"),
    [
        (False, "unet", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"),
        (False, "text_encoder", "encoder.layers.0.self_attn.q_proj", "lora_te_text_model_encoder_layers_0_self_attn_q_proj"),
        (True, "unet", "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"),
        (True, "unet", "mid_block.attentions.0.proj_in", "lora_unet_middle_block_1_proj_in"),
        (True, "unet", "up_blocks.0.attentions.2.transformer_blocks.9.ff.net.0.proj", "lora_unet_output_blocks_2_1_transformer_blocks_9_ff_net_0_proj"),
        (True, "text_encoder", "text_model.encoder.layers.0.mlp.fc1", "lora_te1_text_model_encoder_layers_0_mlp_fc1"),
        (True, "text_encoder_2", "text_model.encoder.layers.31.self_attn.out_proj", "lora_te2_text_model_encoder_layers_31_self_attn_out_proj"),
        (True, "text_encoder_2", "text_projection", "lora_te2_text_projection"),
    ],
)
def test_kohyas_names_as_the_reference_gives_them(xl: bool, part: str, path: str, name: str) -> None:
    assert kohya_name(xl, part, path) == name
    known = module_paths(xl, part, ["down_blocks.0.resnets.1", "down_blocks.1.resnets.1", "down_blocks.2.resnets.1", "down_blocks.1.attentions.1", "down_blocks.2.attentions.1", path])
    assert known[name] == path


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name in ("SD1", "SD2", "SDXL")], ids=lambda kind: kind.name)
def test_every_module_is_found_by_the_name_it_is_written_with_and_by_both_dialects(kind: Kind) -> None:
    paths = [name for name, module in make(kind).unet.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    xl = len(kind.texts) == 2
    known = module_paths(xl, "unet", paths)
    for path in paths:
        mapped = unet_key(f"{path}.weight", kind.levels).removesuffix(".weight").replace(".", "_")
        assert known[kohya_name(xl, "unet", path)] == known[f"lora_unet_{mapped}"] == known["lora_unet_" + path.replace(".", "_")] == path
        assert kohya_name(xl, "unet", path) == f"lora_unet_{mapped if xl else path.replace('.', '_')}"
