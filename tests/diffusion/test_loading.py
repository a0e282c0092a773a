"""Diffusers folders of every family, autoencoders in files of their own, and which of them goes with a checkpoint."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from studio import shelves
from studio.diffusion.loading import find_vae, load_model, load_vae
from studio.diffusion.model import Conditioning
from studio.errors import NotFound, Unreadable
from studio.settings import Paths
from tests.diffusion.originals import END, KINDS, START, Kind, Parts, make, make_vae, original, vae_state, write

CPU = torch.device("cpu")
IDS = torch.tensor([[START, 320, 736, *[END] * 74]])


def text(kind: Kind, place: int) -> CLIPTextModel | CLIPTextModelWithProjection:
    """A text encoder as a diffusers folder of this family holds it."""
    width = kind.text_widths[place]
    shape = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": kind.pooled or width}
    config = CLIPTextConfig(vocab_size=49408, eos_token_id=END, hidden_act="quick_gelu" if kind.texts[place] == "clip" else "gelu", **shape)
    return (CLIPTextModelWithProjection if place else CLIPTextModel)(config).eval()


def save_folder(kind: Kind, parts: Parts, folder: Path) -> list[CLIPTextModel | CLIPTextModelWithProjection]:
    """Write a folder with the libraries' own savers; returns the text encoders."""
    texts = [text(kind, place) for place in range(len(kind.texts))]
    parts.unet.save_pretrained(folder / "unet")
    parts.vae.save_pretrained(folder / "vae")
    for name, module in zip(("text_encoder", "text_encoder_2"), texts, strict=False):
        module.save_pretrained(folder / name)
    (folder / "scheduler").mkdir()
    settings = {"_class_name": "EulerDiscreteScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    settings["prediction_type"] = "v_prediction" if kind.name == "SD2 v" else "epsilon"
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings))
    (folder / "model_index.json").write_text("{}")
    return texts


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_folder_of_every_family_computes_what_its_modules_compute(kind: Kind, tmp_path: Path) -> None:
    parts = make(kind)
    texts = save_folder(kind, parts, tmp_path / "model")
    model = load_model(tmp_path / "model", CPU, torch.float32)
    assert (model.family.name, model.prediction_type) == (kind.name, "v_prediction" if kind.name == "SD2 v" else "epsilon")
    x, context, t = torch.randn(1, 4, 16, 16), torch.randn(1, 77, kind.context), torch.tensor([7])
    extra = torch.randn(1, kind.channels - 4, 16, 16)
    pooled, sizes = torch.randn(1, kind.pooled), torch.tensor([[512.0, 512, 0, 0, 512, 512]])
    two = len(texts) == 2
    added = {"text_embeds": pooled, "time_ids": sizes} if two else None
    wanted = parts.unet(torch.cat([x, extra], 1), t, context, added_cond_kwargs=added).sample
    assert torch.allclose(model.predict(x, t, Conditioning(context, (), pooled if two else None, sizes if two else None), extra), wanted, atol=1e-5)
    ids = IDS if kind.texts[-1] == "clip" else torch.where(torch.arange(77) > 3, 0, IDS)
    states = [module(i, output_hidden_states=True) for module, i in zip(texts, [IDS, ids] if two else [ids], strict=True)]
    read = torch.cat([s.hidden_states[-2] for s in states], -1) if two else states[0].last_hidden_state
    assert torch.allclose(model.encode(IDS)[0], read, atol=1e-5)
    assert not two or torch.allclose(model.encode(IDS)[1], states[1].text_embeds, atol=1e-5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of Stable Diffusion 1, not to be changed."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_folder(KINDS[0], make(KINDS[0]), folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A folder of Stable Diffusion 1."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.mark.parametrize(
    ("part", "key"),
    [("unet", "mid_block.attentions.0.proj_in.bias"), ("vae", "decoder.conv_out.bias"), ("text_encoder", "encoder.layers.1.mlp.fc1.bias")],
)
def test_a_folder_that_lacks_one_tensor_is_refused_and_the_tensor_named(folder: Path, part: str, key: str) -> None:
    file = next((folder / part).glob("*.safetensors"))
    state = load_file(file)
    lost = next(k for k in state if k.endswith(key))
    save_file({k: v for k, v in state.items() if k != lost}, file)
    with pytest.raises(Unreadable, match=f"model/{part} lacks 1 of .*{key}"):
        load_model(folder, CPU, torch.float32)


@pytest.mark.parametrize("lost", ["unet", "vae", "text_encoder", "scheduler", "unet/config.json", "vae/diffusion_pytorch_model.safetensors"])
def test_a_folder_that_lacks_a_part_is_refused_in_words(folder: Path, lost: str) -> None:
    shutil.rmtree(folder / lost) if (folder / lost).is_dir() else (folder / lost).unlink()
    with pytest.raises(Unreadable, match="model") as caught:
        load_model(folder, CPU, torch.float32)
    assert lost.split("/")[0] in caught.value.message
    assert str(folder.parent) not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[1]", "7", '{"in_channels": 5}', '{"block_out_channels": "wide"}', '{"hidden_size": -1, "in_channels": 4}', '{"hidden_size": 20, "in_channels": 4}'])
@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_settings_of_nonsense_are_refused_in_words(folder: Path, part: str, content: str) -> None:
    (folder / part / "config.json").write_text(content)
    with pytest.raises(Unreadable, match="model"):
        load_model(folder, CPU, torch.float32)


def test_names_with_and_without_text_model_are_read_alike(folder: Path) -> None:
    before = load_model(folder, CPU, torch.float32)
    file = folder / "text_encoder" / "model.safetensors"
    state = {"text_model." + k.removeprefix("text_model."): v for k, v in load_file(file).items()}
    for spelled in (state, {k.removeprefix("text_model."): v for k, v in state.items()}):
        save_file(spelled | {"text_model.embeddings.position_ids": torch.arange(77)[None]}, file)
        assert torch.equal(load_model(folder, CPU, torch.float32).encode(IDS)[0], before.encode(IDS)[0])


def test_weights_in_pieces_in_half_precision_or_pickled_are_read(folder: Path) -> None:
    before = load_model(folder, CPU, torch.float32)
    whole = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(whole)
    names = sorted(state)
    whole.unlink()
    for i, keys in enumerate((names[:300], names[300:])):
        save_file({k: state[k] for k in keys}, folder / "unet" / f"diffusion_pytorch_model-{i + 1:05}-of-00002.safetensors")
    vae = folder / "vae" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(vae), vae.with_suffix(".bin"))
    vae.unlink()
    encoder = folder / "text_encoder" / "model.safetensors"
    encoder.rename(encoder.with_name("model.fp16.safetensors"))
    after = load_model(folder, CPU, torch.float32)
    for name in ("unet", "vae", "text_encoder"):
        here, there = getattr(before, name).state_dict(), getattr(after, name).state_dict()
        assert all(torch.equal(here[k], there[k]) for k in here)


def test_a_pickle_in_a_folder_that_would_run_code_is_refused(folder: Path, tmp_path: Path) -> None:
    class Bomb:
        """Makes a folder when it is unpickled."""

        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "it-ran"),)

    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"a": Bomb()}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(Unreadable, match="mkdir"):
        load_model(folder, CPU, torch.float32)
    assert not (tmp_path / "it-ran").exists()


@pytest.fixture(scope="module")
def other() -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """An autoencoder of its own and its tensors in the original layout."""
    torch.manual_seed(5)
    vae = make_vae().requires_grad_(False).eval()
    return vae, {k: v.contiguous().clone() for k, v in vae_state(vae.state_dict()).items()}


@pytest.mark.parametrize("form", ["plain.safetensors", "prefixed.safetensors", "plain.pt", "lightning.ckpt", "diffusers.safetensors", "folder", "old folder"])
def test_an_autoencoder_of_its_own_in_every_form_it_comes_in(other: tuple, tmp_path: Path, form: str) -> None:
    vae, state = other
    path = tmp_path / form
    if form.endswith("folder"):
        vae.save_pretrained(path)
        file = path / "diffusion_pytorch_model.safetensors"
        old = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}
        renamed = load_file(file)
        for new, name in old.items() if form == "old folder" else ():
            renamed = {k.replace(new, name): v for k, v in renamed.items()}
        save_file(renamed, file)
    elif form == "lightning.ckpt":
        write(path, {**state, "loss.logvar": torch.zeros(()), "model_ema.decay": torch.ones(())})
    elif form == "diffusers.safetensors":
        save_file(vae.state_dict(), path)
    else:
        write(path, {("first_stage_model." if "prefixed" in form else "") + k: v for k, v in state.items()})
    found = load_vae(path)
    assert found.config.scaling_factor == 0.18215
    z = torch.randn(1, 4, 8, 8)
    assert torch.allclose(found.decode(z).sample, vae.decode(z).sample, atol=1e-6)


def test_a_checkpoint_takes_another_autoencoder_with_its_familys_scale(other: tuple, tmp_path: Path) -> None:
    vae, state = other
    xl = next(kind for kind in KINDS if kind.name == "SDXL")
    path = write(tmp_path / "xl.safetensors", {k: v for k, v in original(make(xl)).items() if not k.startswith("first_stage_model.")})
    file = write(tmp_path / "better.vae.pt", state)
    model = load_model(path, CPU, torch.float32, vae=file, hashes=tmp_path / "hashes.json")
    z = torch.randn(1, 4, 8, 8)
    assert torch.allclose(model.decode(z), vae.decode(z / 0.13025).sample.clamp(-1, 1), atol=1e-5)
    assert model.vae_name == "better.vae.pt"
    assert len(model.vae_hash) == 10
    ready = load_vae(file)
    assert load_model(path, CPU, torch.float32, vae=ready).vae is ready
    with pytest.raises(Unreadable, match="no autoencoder"):
        load_model(path, CPU, torch.float32)


@pytest.mark.parametrize("lost", ["decoder.conv_out.bias", "encoder.mid.attn_1.q.weight", "encoder.conv_in.weight", "decoder.", "quant_conv.bias"])
def test_an_autoencoder_that_lacks_a_tensor_is_refused_in_words(other: tuple, tmp_path: Path, lost: str) -> None:
    path = write(tmp_path / "cut.safetensors", {k: v for k, v in other[1].items() if not k.startswith(lost)})
    with pytest.raises(Unreadable, match=r"cut\.safetensors") as caught:
        load_vae(path)
    assert lost in caught.value.message


def test_a_file_that_is_no_autoencoder_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="not an autoencoder"):
        load_vae(write(tmp_path / "lora.safetensors", {"lora_unet_x.alpha": torch.ones(1)}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(Unreadable, match="empty"):
        load_vae(tmp_path / "empty")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([], None),
        (["models/VAE/other.safetensors"], None),
        (["models/VAE/my model.v1.safetensors"], "models/VAE/my model.v1.safetensors"),
        (["models/VAE/my model.v1.vae.pt"], "models/VAE/my model.v1.vae.pt"),
        (["models/Stable-diffusion/my model.v1.vae.pt"], "models/Stable-diffusion/my model.v1.vae.pt"),
        (["models/Stable-diffusion/my model.v1.vae.ckpt"], "models/Stable-diffusion/my model.v1.vae.ckpt"),
        (["models/VAE/my model.v1.vae.safetensors", "models/VAE/my model.v1.safetensors"], "models/VAE/my model.v1.vae.safetensors"),
        (["models/Stable-diffusion/my model.vae.pt", "models/VAE/my model.safetensors"], None),
    ],
)
def test_automatic_takes_the_file_named_like_the_checkpoint(root: Paths, files: list[str], found: str | None) -> None:
    for name in files:
        (root.root / name).write_bytes(b"x")
    checkpoint = root.checkpoints / "my model.v1.safetensors"
    assert find_vae(root, checkpoint, "Automatic") == find_vae(root, checkpoint, "") == (root.root / found if found else None)
    assert find_vae(root, checkpoint, "None") is None


def test_a_vae_is_chosen_by_name_or_stem_and_one_that_is_not_there_is_told(root: Paths) -> None:
    (root.vae / "good.safetensors").write_bytes(b"x")
    (root.vae / "diffusers-vae").mkdir()
    (root.vae / "diffusers-vae" / "config.json").write_text("{}")
    (root.vae / "readme.txt").write_text("x")
    (root.vae / "empty").mkdir()
    (root.checkpoints / "a.vae.pt").write_bytes(b"x")
    (root.checkpoints / "a.vae.safetensors").write_bytes(b"x")
    assert shelves.vaes(root) == ["diffusers-vae", "good.safetensors", "a.vae.pt", "a.vae.safetensors"]
    assert "a.vae.safetensors" not in shelves.checkpoints(root)
    checkpoint = root.checkpoints / "x.ckpt"
    assert find_vae(root, checkpoint, "good") == find_vae(root, checkpoint, "good.safetensors") == root.vae / "good.safetensors"
    assert find_vae(root, checkpoint, "diffusers-vae") == root.vae / "diffusers-vae"
    with pytest.raises(NotFound, match="no VAE 'bad'") as caught:
        find_vae(root, checkpoint, "bad")
    assert "good.safetensors" in caught.value.hint
