"""One-file checkpoints in the original layout: written here key by key, read back by the studio, compared with diffusers' own modules."""

import json
import os
import pickle
import re
import struct
import types
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from studio.diffusion.cache import ModelCache
from studio.diffusion.conditioning import condition
from studio.diffusion.loading import find_checkpoint, load_model
from studio.diffusion.model import Conditioning, Model
from studio.errors import NotFound, Unreadable
from studio.settings import Paths

CPU, WIDTHS, WIDTH = torch.device("cpu"), (32, 64, 96, 96), 64
State = dict[str, Tensor]


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def parts() -> types.SimpleNamespace:
    """Small random networks with the shape of Stable Diffusion 1: four levels, two resnets each, eight heads, 1x1-convolved projections."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=WIDTHS,
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=2,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=32,
        sample_size=512,
        scaling_factor=0.18215,
    )
    text = CLIPTextModel(
        CLIPTextConfig(vocab_size=49408, hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=3, num_attention_heads=1, bos_token_id=49406, eos_token_id=49407, pad_token_id=49407)
    )
    for module in (unet, vae, text):
        module.requires_grad_(False).eval()
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return types.SimpleNamespace(unet=unet, vae=vae, text=text)


RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
UNET_TOP = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def ldm_unet_key(key: str) -> str:
    """A UNet key in the original layout, after the table in the project's reference of formats."""
    stem, leaf = key.rsplit(".", 1)
    if stem in UNET_TOP:
        return f"{UNET_TOP[stem]}.{leaf}"
    rest = stem.split(".")
    side = rest[0]
    if side == "mid_block":
        kind, j, tail = rest[1], int(rest[2]), rest[3:]
        place = f"middle_block.{2 * j if kind == 'resnets' else 1}"
    else:
        i, kind, j, tail = int(rest[1]), rest[2], int(rest[3]), rest[4:]
        if kind == "downsamplers":
            return f"input_blocks.{3 * (i + 1)}.0.op.{leaf}"
        if kind == "upsamplers":
            return f"output_blocks.{3 * i + 2}.{1 if i == 0 else 2}.conv.{leaf}"
        block = f"input_blocks.{3 * i + j + 1}" if side == "down_blocks" else f"output_blocks.{3 * i + j}"
        place = f"{block}.{0 if kind == 'resnets' else 1}"
    if kind == "resnets":
        tail = [RESNET[tail[0]], *tail[1:]]
    return ".".join([place, *tail, leaf])


def ldm_vae(state: State) -> State:
    """A VAE's tensors in the original layout: up blocks counted from the other end, attention as 1x1 convolutions."""
    out: State = {}
    levels = 4
    for key, tensor in state.items():
        name, value = key, tensor
        if match := re.match(r"(encoder\.down|decoder\.up)_blocks\.(\d+)\.(.*)", key):
            side, i, rest = match.group(1), int(match.group(2)), match.group(3)
            i = levels - 1 - i if side == "decoder.up" else i
            rest = rest.replace("resnets.", "block.").replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample").replace("conv_shortcut", "nin_shortcut")
            name = f"{side}.{i}.{rest}"
        elif match := re.match(r"(encoder|decoder)\.mid_block\.resnets\.(\d)\.(.*)", key):
            name = f"{match.group(1)}.mid.block_{int(match.group(2)) + 1}.{match.group(3)}"
        elif match := re.match(r"(encoder|decoder)\.mid_block\.attentions\.0\.(.*)\.(weight|bias)", key):
            part = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}[match.group(2)]
            name = f"{match.group(1)}.mid.attn_1.{part}.{match.group(3)}"
            if part != "norm" and match.group(3) == "weight":
                value = tensor[:, :, None, None]
        out[name.replace("conv_norm_out", "norm_out")] = value
    return out


def ldm(parts: types.SimpleNamespace, half: bool = False) -> State:
    """All three networks in the original layout, with the extra tensors that real files carry."""
    out = {f"model.diffusion_model.{ldm_unet_key(k)}": v for k, v in parts.unet.state_dict().items()}
    out |= {f"first_stage_model.{k}": v for k, v in ldm_vae(parts.vae.state_dict()).items()}
    out |= {f"cond_stage_model.transformer.text_model.{k.removeprefix('text_model.')}": v for k, v in parts.text.state_dict().items() if "position_ids" not in k}
    out = {k: (v.half() if half else v).contiguous().clone() for k, v in out.items()}
    out["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    out["alphas_cumprod"] = torch.linspace(1, 0, 1000)
    out["model_ema.decay"] = torch.tensor(0.9999)
    return out


def write(path: Path, state: State) -> Path:
    """A checkpoint file of the kind its suffix names."""
    if path.suffix == ".ckpt":
        torch.save({"epoch": 3, "global_step": 10, "state_dict": state}, path)
    else:
        save_file(state, path)
    return path


@pytest.fixture(scope="module", params=["model.safetensors", "model.ckpt"])
def loaded(request: pytest.FixtureRequest, parts: types.SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The networks after a way through a file."""
    return load_model(write(tmp_path_factory.mktemp("one") / request.param, ldm(parts)), CPU, torch.float32)


@pytest.mark.parametrize(
    "key",
    [
        "input_blocks.0.0.weight",
        "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
        "input_blocks.3.0.op.weight",
        "input_blocks.11.0.in_layers.2.weight",
        "middle_block.1.proj_in.weight",
        "middle_block.2.out_layers.3.bias",
        "output_blocks.2.1.conv.weight",
        "output_blocks.5.2.conv.weight",
        "output_blocks.11.1.proj_out.weight",
        "time_embed.2.bias",
        "out.2.weight",
    ],
)
def test_the_file_written_here_has_the_keys_of_stable_diffusion_1(parts: types.SimpleNamespace, key: str) -> None:
    assert f"model.diffusion_model.{key}" in ldm(parts)


@pytest.mark.parametrize(
    "key", ["encoder.down.0.block.1.conv2.weight", "encoder.down.2.downsample.conv.weight", "decoder.up.3.upsample.conv.weight", "encoder.mid.attn_1.q.weight", "quant_conv.weight"]
)
def test_the_file_written_here_has_the_keys_of_the_autoencoder(parts: types.SimpleNamespace, key: str) -> None:
    assert f"first_stage_model.{key}" in ldm(parts)


def test_the_unet_of_a_single_file_predicts_what_the_original_predicts(loaded: Model, parts: types.SimpleNamespace) -> None:
    x, context = torch.randn(2, 4, 16, 16), torch.randn(2, 77, WIDTH)
    t = torch.tensor([7, 800])
    wanted = parts.unet(x, t, context).sample
    assert torch.allclose(loaded.predict(x, t, Conditioning(context)), wanted, atol=1e-5)
    assert not torch.allclose(loaded.predict(x, t, Conditioning(context.flip(0))), wanted, atol=1e-5)


def test_the_autoencoder_of_a_single_file_encodes_and_decodes_like_the_original(loaded: Model, parts: types.SimpleNamespace) -> None:
    picture, z = torch.rand(1, 3, 64, 64) * 2 - 1, torch.randn(1, 4, 8, 8)
    latent = parts.vae.encode(picture).latent_dist
    mean, std = loaded.encode_images(picture)
    assert torch.allclose(mean, latent.mean * 0.18215, atol=1e-5)
    assert torch.allclose(std, latent.std * 0.18215, atol=1e-5)
    assert torch.allclose(loaded.decode(z), parts.vae.decode(z / 0.18215).sample.clamp(-1, 1), atol=1e-5)


def test_the_text_encoder_of_a_single_file_reads_like_the_original(loaded: Model, parts: types.SimpleNamespace) -> None:
    ids = torch.tensor([[49406, 320, 736, 7117, *[49407] * 73]])
    assert torch.allclose(loaded.encode(ids)[0], parts.text(ids).last_hidden_state, atol=1e-5)


def test_every_tensor_comes_through_bit_for_bit(loaded: Model, parts: types.SimpleNamespace) -> None:
    for name, original in vars(parts).items():
        found = getattr(loaded, "text_encoder" if name == "text" else name).state_dict()
        wanted = original.state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[k], wanted[k]) for k in wanted)


def test_the_sizes_of_a_single_file_are_read_from_its_tensors(loaded: Model) -> None:
    assert (loaded.width, loaded.scale, loaded.native_size, loaded.prediction_type) == (WIDTH, 8, 512, "epsilon")
    assert tuple(loaded.unet.config.block_out_channels) == WIDTHS
    assert loaded.alphas_cumprod[0].item() == pytest.approx(0.99915, abs=1e-5)
    assert loaded.alphas_cumprod[-1].item() == pytest.approx(0.00466, abs=1e-5)


def test_a_single_file_can_be_prompted_and_its_weights_are_frozen(loaded: Model) -> None:
    assert condition(loaded, ["a red circle"], {}).context.shape == (1, 77, WIDTH)
    assert not any(p.requires_grad for m in (loaded.unet, loaded.vae, loaded.text_encoder) for p in m.parameters())


def test_a_half_precision_file_is_loaded_in_the_precision_asked_for(parts: types.SimpleNamespace, tmp_path: Path) -> None:
    model = load_model(write(tmp_path / "half.safetensors", ldm(parts, half=True)), CPU, torch.float32)
    assert {p.dtype for m in (model.unet, model.vae, model.text_encoder) for p in m.parameters()} == {torch.float32}
    assert torch.equal(model.unet.conv_in.weight, parts.unet.conv_in.weight.half().float())


def test_the_hash_is_the_first_ten_digits_of_the_files_sha256(parts: types.SimpleNamespace, tmp_path: Path) -> None:
    import hashlib

    path = write(tmp_path / "model.safetensors", ldm(parts))
    model = load_model(path, CPU, torch.float32)
    assert (model.checkpoint, model.hash) == ("model.safetensors", hashlib.sha256(path.read_bytes()).hexdigest()[:10])


def test_a_single_file_on_the_shelf_is_found_by_name_and_by_stem(parts: types.SimpleNamespace, root: Paths) -> None:
    path = write(root.checkpoints / "my model.v1.safetensors", ldm(parts))
    assert find_checkpoint(root, "my model.v1.safetensors") == find_checkpoint(root, "my model.v1") == path
    with ModelCache(root, device="cpu").lend("my model.v1") as model:
        assert model.width == WIDTH
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
def test_a_truncated_file_is_refused_in_words(parts: types.SimpleNamespace, tmp_path: Path, name: str, share: float) -> None:
    path = write(tmp_path / name, ldm(parts))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(path)


@pytest.mark.parametrize("name", ["foreign.safetensors", "foreign.ckpt"])
@pytest.mark.parametrize("keys", [["lora_unet_mid.lora_down.weight"], ["encoder.conv_in.weight"], ["a", "b"]])
def test_a_file_with_foreign_keys_is_refused_in_words(tmp_path: Path, name: str, keys: list[str]) -> None:
    error = refused(write(tmp_path / name, {k: torch.zeros(2, 2) for k in keys}))
    assert "not a Stable Diffusion checkpoint" in error.message


@pytest.mark.parametrize(("key", "family"), [("cond_stage_model.model.transformer.resblocks.0.ln_1.weight", "SD2"), ("conditioner.embedders.0.transformer.text_model.final_layer_norm.weight", "SDXL")])
@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
def test_a_checkpoint_of_another_family_is_refused_by_name(tmp_path: Path, key: str, family: str, suffix: str) -> None:
    assert f"{family} checkpoint" in refused(write(tmp_path / f"other.{suffix}", {key: torch.zeros(4)})).message


@pytest.mark.parametrize(
    "lost",
    [
        "model.diffusion_model.",
        "first_stage_model.",
        "cond_stage_model.transformer.text_model.encoder.",
        "cond_stage_model.transformer.text_model.embeddings.token_embedding",
        "model.diffusion_model.input_blocks.0.",
        "model.diffusion_model.middle_block.1",
        "model.diffusion_model.output_blocks.11.0.in_layers.0.weight",
        "first_stage_model.decoder.conv_out",
        "cond_stage_model.transformer.text_model.final_layer_norm.bias",
    ],
)
def test_a_checkpoint_that_lacks_tensors_is_refused_in_words(parts: types.SimpleNamespace, tmp_path: Path, lost: str) -> None:
    state = {k: v for k, v in ldm(parts).items() if not k.startswith(lost)}
    refused(write(tmp_path / "pruned.safetensors", state))


def test_a_tensor_of_the_wrong_shape_is_refused_in_words(parts: types.SimpleNamespace, tmp_path: Path) -> None:
    state = ldm(parts)
    state["model.diffusion_model.time_embed.0.weight"] = torch.zeros(3)
    refused(write(tmp_path / "odd.safetensors", state))


@pytest.mark.parametrize("header", [b"[]", b"{}", b"null", b'{"a": 1}', b'{"a": {"dtype": "F32"}}', b"\xff\xfe", b"{" * 5000])
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


def test_a_folder_that_holds_no_model_is_refused_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    refused(folder)
