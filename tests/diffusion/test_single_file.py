"""One-file checkpoints of every family: written key by key apart from the studio, read back by it, compared with the modules they were made from."""

import hashlib
import json
import os
import pickle
import re
import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor

from studio.diffusion.cache import ModelCache
from studio.diffusion.conditioning import condition
from studio.diffusion.loading import find_checkpoint, load_model, save_model
from studio.diffusion.model import Conditioning, Model
from studio.errors import NotFound, Unreadable
from studio.formats.checkpoint import Weights
from studio.settings import Paths
from tests.diffusion.originals import END, KINDS, START, Kind, Parts, make, original, text_roots, tower_layers, write

CPU = torch.device("cpu")
ONE, TWO, XL = (next(kind for kind in KINDS if kind.name == name) for name in ("SD1", "SD2", "SDXL"))
IDS = torch.tensor([[START, 320, 736, 7117, *[END] * 73]])
ZEROS = torch.tensor([[START, 320, 736, 7117, END, *[0] * 72]])


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def parts(request: pytest.FixtureRequest) -> Parts:
    """Random networks of one family."""
    return make(request.param)


@pytest.fixture(scope="module", params=["model.safetensors", "model.ckpt"])
def loaded(request: pytest.FixtureRequest, parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The networks after a way through a file."""
    return load_model(write(tmp_path_factory.mktemp("one") / request.param, original(parts), parts.kind.metadata or None), CPU, torch.float32)


@pytest.fixture(scope="module")
def one() -> Parts:
    """Random networks of Stable Diffusion 1."""
    return make(ONE)


def velocity(kind: Kind, name: str) -> bool:
    """Whether a file of this kind says it predicts velocity; a .ckpt has no metadata."""
    return bool(kind.metadata) and name.endswith(".safetensors")


def test_the_family_is_recognised(loaded: Model, parts: Parts) -> None:
    said = velocity(parts.kind, loaded.checkpoint)
    assert loaded.family.name == (parts.kind.name if said or not parts.kind.metadata else "SD2")
    assert loaded.prediction_type == ("v_prediction" if said else "epsilon")
    assert loaded.native_size == (1024 if len(parts.kind.texts) == 2 else 768 if said else 512)


def test_the_unet_of_a_single_file_predicts_what_the_original_predicts(loaded: Model, parts: Parts) -> None:
    kind = parts.kind
    x, t, context = torch.randn(2, 4, 16, 16), torch.tensor([7, 800]), torch.randn(2, 77, kind.context)
    extra = torch.randn(1, 5, 16, 16) if kind.channels == 9 else None
    pooled, sizes = (torch.randn(2, kind.pooled), torch.tensor([[512.0, 768, 0, 0, 512, 768]])) if len(kind.texts) == 2 else (None, None)
    whole = x if extra is None else torch.cat([x, extra.expand(2, -1, -1, -1)], 1)
    added = None if pooled is None else {"text_embeds": pooled, "time_ids": sizes.expand(2, -1)}
    wanted = parts.unet(whole, t, context, added_cond_kwargs=added).sample
    assert torch.allclose(loaded.predict(x, t, Conditioning(context, (), pooled, sizes), extra), wanted, atol=1e-5)
    assert not torch.allclose(loaded.predict(x, t, Conditioning(context.flip(0), (), pooled, sizes), extra), wanted, atol=1e-5)
    if pooled is not None:
        assert not torch.allclose(loaded.predict(x, t, Conditioning(context, (), pooled, sizes * 2), extra), wanted, atol=1e-5)


def test_the_autoencoder_of_a_single_file_encodes_and_decodes_like_the_original(loaded: Model, parts: Parts) -> None:
    picture, z = torch.rand(1, 3, 64, 64) * 2 - 1, torch.randn(1, 4, 8, 8)
    scale = 0.13025 if len(parts.kind.texts) == 2 else 0.18215
    latent = parts.vae.encode(picture).latent_dist
    mean, std = loaded.encode_images(picture)
    assert torch.allclose(mean, latent.mean * scale, atol=1e-5)
    assert torch.allclose(std, latent.std * scale, atol=1e-5)
    assert torch.allclose(loaded.decode(z), parts.vae.decode(z / scale).sample.clamp(-1, 1), atol=1e-5)


def reading(parts: Parts) -> tuple[Tensor, Tensor | None]:
    """Context and pooled text by the original encoders, each used as its family does: padded with its own token, last or penultimate layer, normed or not."""
    first = parts.texts[0]
    if parts.kind.texts == ("clip",):
        return first(IDS).last_hidden_state, None
    if parts.kind.texts == ("open_clip",):
        return first.ln_final(tower_layers(first, ZEROS)[-2]), None
    second = parts.texts[1]
    layers = tower_layers(second, ZEROS)
    pooled = second.ln_final(layers[-1])[:, 4] @ second.text_projection
    return torch.cat([first(IDS, output_hidden_states=True).hidden_states[-2], layers[-2]], -1), pooled


def test_the_text_encoders_of_a_single_file_read_like_the_originals(loaded: Model, parts: Parts) -> None:
    context, pooled = reading(parts)
    found, text = loaded.encode(IDS)
    assert torch.allclose(found, context, atol=1e-5)
    assert (text is None) == (pooled is None)
    assert pooled is None or torch.allclose(text, pooled, atol=1e-5)


def test_every_tensor_comes_through_bit_for_bit(loaded: Model, parts: Parts) -> None:
    for name in ("unet", "vae"):
        found, wanted = getattr(loaded, name).state_dict(), getattr(parts, name).state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[k], wanted[k]) for k in wanted)


def test_the_sizes_of_a_single_file_are_read_from_its_tensors(loaded: Model, parts: Parts) -> None:
    assert (loaded.width, loaded.scale) == (parts.kind.context, 8)
    assert tuple(loaded.unet.config.block_out_channels) == parts.kind.widths
    assert loaded.unet.config.in_channels == loaded.family.unet_channels == parts.kind.channels
    assert loaded.alphas_cumprod[0].item() == pytest.approx(0.99915, abs=1e-5)
    assert loaded.alphas_cumprod[-1].item() == pytest.approx(0.00466, abs=1e-5)


def test_a_single_file_can_be_prompted_and_its_weights_are_frozen(loaded: Model) -> None:
    assert condition(loaded, ["a red circle"], {}).context.shape == (1, 77, loaded.width)
    assert not any(p.requires_grad for m in (loaded.unet, loaded.vae, *loaded.text_encoders) for p in m.parameters())
    assert not any(t.is_meta for m in (loaded.unet, loaded.vae, *loaded.text_encoders) for t in (*m.parameters(), *m.buffers()))


@pytest.mark.parametrize("kind", [ONE, next(kind for kind in KINDS if kind.name == "SD2 v"), XL], ids=lambda kind: kind.name)
def test_a_model_written_to_a_single_file_has_the_tensors_it_came_from(kind: Kind, tmp_path: Path) -> None:
    parts = make(kind)
    loaded = load_model(write(tmp_path / "model.safetensors", original(parts), kind.metadata or None), CPU, torch.float32)
    save_model(loaded, tmp_path / "again.safetensors", half=False)
    again, wanted = Weights(tmp_path / "again.safetensors").read(), original(parts)
    top = f"{text_roots(parts.kind)[0]}transformer.resblocks.3."
    unused = {k for k in wanted if k.startswith(top) or k.endswith("text_projection")} if parts.kind.texts == ("open_clip",) else set()
    lost = wanted.keys() - again.keys() - unused
    assert {k.rpartition(".")[2] for k in lost} <= {"alphas_cumprod", "decay", "position_ids", "logit_scale"}
    assert all(torch.equal(again[k], wanted[k]) for k in again)
    back = load_model(tmp_path / "again.safetensors", CPU, torch.float32)
    assert (back.family, back.prediction_type) == (loaded.family, loaded.prediction_type)
    assert torch.equal(back.encode(IDS)[0], loaded.encode(IDS)[0])


def test_a_half_precision_file_is_loaded_in_the_precision_asked_for(one: Parts, tmp_path: Path) -> None:
    path = write(tmp_path / "half.safetensors", original(one, half=True))
    for dtype in (torch.float32, torch.float16):
        model = load_model(path, CPU, dtype)
        assert {p.dtype for m in (model.unet, model.vae, model.text_encoder) for p in m.parameters()} == {dtype}
        assert torch.equal(model.unet.conv_in.weight, one.unet.conv_in.weight.half().to(dtype))


def test_a_loaded_model_does_not_hang_on_its_file(one: Parts, tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", original(one))
    model = load_model(path, CPU, torch.float32)
    with path.open("rb+") as file:
        file.write(b"\0" * path.stat().st_size)
    assert torch.equal(model.unet.conv_in.weight, one.unet.conv_in.weight)


def test_a_file_whose_text_encoder_lacks_text_model_in_its_names_is_read(one: Parts, tmp_path: Path) -> None:
    state = {k.replace("transformer.text_model.", "transformer."): v for k, v in original(one).items()}
    model = load_model(write(tmp_path / "old.safetensors", state), CPU, torch.float32)
    assert torch.equal(model.encode(IDS)[0], one.texts[0](IDS).last_hidden_state)


@pytest.mark.parametrize("pruned", [True, False])
def test_a_tower_cut_by_a_converter_is_used_to_its_last_layer(tmp_path: Path, pruned: bool) -> None:
    parts = make(TWO)
    state = original(parts)
    cut = {k: v for k, v in state.items() if not k.startswith("cond_stage_model.model.transformer.resblocks.3.") and not k.endswith("text_projection")}
    model = load_model(write(tmp_path / "model.safetensors", cut if pruned else state), CPU, torch.float32)
    assert model.text_encoder.config.num_hidden_layers == 3
    assert torch.allclose(model.encode(IDS)[0], reading(parts)[0], atol=1e-5)


def test_a_yaml_beside_an_sd2_file_says_that_it_predicts_velocity(tmp_path: Path) -> None:
    path = write(tmp_path / "two.ckpt", original(make(TWO)))
    path.with_suffix(".yaml").write_text("model:\n  params:\n    parameterization: v\n")
    model = load_model(path, CPU, torch.float32)
    assert (model.family.name, model.prediction_type, model.native_size) == ("SD2 v", "v_prediction", 768)


@pytest.mark.parametrize(("kind", "level", "family"), [(TWO, -3.0, "SD2 v"), (TWO, 0.5, "SD2"), (ONE, -3.0, "SD1"), (XL, -3.0, "SDXL")])
def test_an_sd2_file_that_says_nothing_is_asked_what_it_predicts(kind: Kind, level: float, family: str, tmp_path: Path) -> None:
    state = original(make(kind))
    state["model.diffusion_model.out.2.bias"].fill_(level)
    state["model.diffusion_model.out.2.weight"].zero_()
    model = load_model(write(tmp_path / "two.ckpt", state), CPU, torch.float32)
    said = family == "SD2 v"
    assert (model.family.name, model.prediction_type) == (family, "v_prediction" if said else "epsilon")
    assert model.native_size == (768 if said else 1024 if kind == XL else 512)
    (tmp_path / "two.yaml").write_text("parameterization: eps")
    assert load_model(tmp_path / "two.ckpt", CPU, torch.float32).prediction_type == "epsilon"


def test_markers_in_an_sdxl_file_say_velocity_and_that_the_last_step_is_all_noise(tmp_path: Path) -> None:
    state = original(make(XL)) | {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    model = load_model(write(tmp_path / "xl.safetensors", state), CPU, torch.float32)
    assert (model.family.name, model.prediction_type) == ("SDXL", "v_prediction")
    assert 0 < model.alphas_cumprod[-1].item() < 1e-7
    assert model.alphas_cumprod[0].item() == pytest.approx(0.99915, abs=1e-5)


def test_the_hash_is_the_first_ten_digits_of_the_files_sha256(one: Parts, tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", original(one))
    model = load_model(path, CPU, torch.float32, hashes=tmp_path / "hashes.json")
    assert (model.checkpoint, model.hash) == ("model.safetensors", hashlib.sha256(path.read_bytes()).hexdigest()[:10])
    assert model.hash in (tmp_path / "hashes.json").read_text()


def test_a_single_file_on_the_shelf_is_found_by_name_and_by_stem(one: Parts, root: Paths) -> None:
    path = write(root.checkpoints / "my model.v1.safetensors", original(one))
    assert find_checkpoint(root, "my model.v1.safetensors") == find_checkpoint(root, "my model.v1") == path
    with ModelCache(root, device="cpu").lend("my model.v1") as model:
        assert model.width == ONE.context
    with pytest.raises(NotFound, match="no checkpoint 'other'"):
        find_checkpoint(root, "other")


def refused(path: Path) -> Unreadable:
    """The error with which a file is refused; it names the file and says what to do."""
    with pytest.raises(Unreadable) as caught:
        load_model(path, CPU, torch.float32)
    assert path.name in caught.value.message
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    assert str(path.parent) not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("name", ["text.safetensors", "text.ckpt"])
@pytest.mark.parametrize("content", [b"", b"hello", b"<!DOCTYPE html><html>not found</html>" * 100, "这不是模型".encode() * 50], ids=["empty", "short", "html", "chinese"])
def test_a_checkpoint_that_is_text_is_refused_in_words(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.ckpt"])
@pytest.mark.parametrize("share", [0.0001, 0.5, 0.999])
def test_a_truncated_file_is_refused_in_words(one: Parts, tmp_path: Path, name: str, share: float) -> None:
    path = write(tmp_path / name, original(one))
    with path.open("rb+") as file:
        file.truncate(int(path.stat().st_size * share))
    refused(path)


@pytest.mark.parametrize("name", ["foreign.safetensors", "foreign.ckpt"])
@pytest.mark.parametrize("keys", [["lora_unet_mid.lora_down.weight"], ["encoder.conv_in.weight"], ["a", "b"]])
def test_a_file_with_foreign_keys_is_refused_in_words(tmp_path: Path, name: str, keys: list[str]) -> None:
    error = refused(write(tmp_path / name, {k: torch.zeros(2, 2) for k in keys}))
    assert "not a Stable Diffusion checkpoint" in error.message


LOST = {
    "SD1": ["cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc2.bias", "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"],
    "SD2": ["cond_stage_model.model.transformer.resblocks.1.attn.in_proj_weight", "cond_stage_model.model.positional_embedding"],
    "SDXL": ["conditioner.embedders.1.model.text_projection", "conditioner.embedders.0.transformer.text_model.final_layer_norm.bias", "model.diffusion_model.label_emb.0.2.bias"],
}
BOTH = [
    "model.diffusion_model.input_blocks.0.0.weight",
    "model.diffusion_model.input_blocks.1.0.out_layers.3.weight",
    "model.diffusion_model.middle_block.1.proj_in.bias",
    "model.diffusion_model.output_blocks.8.0.in_layers.0.weight",
    "first_stage_model.decoder.conv_out.bias",
    "first_stage_model.encoder.mid.attn_1.q.weight",
]


@pytest.mark.parametrize("kind", [ONE, TWO, XL], ids=lambda kind: kind.name)
def test_a_checkpoint_that_lacks_one_tensor_is_refused_and_the_tensor_named(kind: Kind, tmp_path: Path) -> None:
    state = original(make(kind))
    for lost in LOST[kind.name] + (BOTH if kind == ONE else []):
        error = refused(write(tmp_path / "pruned.safetensors", {k: v for k, v in state.items() if k != lost}))
        assert lost.removeprefix("model.diffusion_model.") in error.message, (lost, error.message)


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("model.diffusion_model.", "UNet"),
        ("first_stage_model.", "no autoencoder .*first_stage_model."),
        ("cond_stage_model.", "no text encoder .*cond_stage_model.transformer."),
        ("cond_stage_model.transformer.text_model.encoder.", "text encoder"),
        ("model.diffusion_model.middle_block.", "lacks .* tensors of the UNet: model.diffusion_model.middle_block.1"),
    ],
)
def test_a_checkpoint_that_lacks_a_part_is_refused_and_the_part_named(one: Parts, tmp_path: Path, lost: str, words: str) -> None:
    state = {k: v for k, v in original(one).items() if not k.startswith(lost)}
    error = refused(write(tmp_path / "pruned.safetensors", state))
    assert re.search(words, error.message), error.message


@pytest.mark.parametrize(
    "key",
    [
        "model.diffusion_model.time_embed.0.weight",
        "first_stage_model.encoder.mid.attn_1.k.weight",
        "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight",
        "cond_stage_model.model.ln_final.bias",
    ],
)
def test_a_tensor_of_the_wrong_shape_is_refused_in_words(tmp_path: Path, key: str) -> None:
    refused(write(tmp_path / "odd.safetensors", original(make(TWO)) | {key: torch.zeros(7)}))


def test_a_unet_with_layers_that_are_not_known_is_refused(one: Parts, tmp_path: Path) -> None:
    state = original(one) | {"model.diffusion_model.input_blocks.1.2.motion.weight": torch.zeros(2)}
    assert "input_blocks.1.2.motion.weight" in refused(write(tmp_path / "video.safetensors", state)).message


@pytest.mark.parametrize("header", [b"[]", b"{}", b"null", b'{"a": 1}', b'{"a": {"dtype": "F32"}}', b"\xff\xfe", b"{" * 5000, b'{"a":' * 3000])
def test_a_safetensors_header_of_nonsense_is_refused_in_words(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "nonsense.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    refused(path)


def test_a_header_longer_than_the_file_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "long.safetensors"
    path.write_bytes(struct.pack("<Q", 2**60) + json.dumps({}).encode())
    refused(path)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_would_run_code_is_refused_and_nothing_is_run(tmp_path: Path, protocol: int, zipped: bool) -> None:
    path, trace = tmp_path / "evil.ckpt", tmp_path / "it-ran"
    state = {"state_dict": {"cond_stage_model.transformer.text_model.x": Bomb(trace)}}
    if zipped:
        torch.save(state, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(state, protocol))
    error = refused(path)
    assert not trace.exists()
    assert "Nothing in it was run" in error.hint


def test_a_checkpoint_that_is_a_list_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "list.ckpt"
    torch.save([torch.zeros(2)], path)
    refused(path)
