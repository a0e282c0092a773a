"""What a file is: one of every kind in its own layout, and what is damaged, mislabelled or unsafe."""

import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from spandrel.architectures.ESRGAN import ESRGAN

from studio.diffusion.cache import ModelCache
from studio.errors import NotFound, Unreadable
from studio.formats.carriers import png_info, write_picture
from studio.formats.embedding import Embedding, embed_in_png, write_embedding
from studio.jobs import SilentLane
from studio.requests.inspect import InspectRequest
from studio.services.desk import Desk
from studio.services.inspection import inspect, run
from studio.settings import SHIPPED_ROOT, Paths

CLIP, OPEN, XL_1, XL_2 = "cond_stage_model.transformer.x", "cond_stage_model.model.x", "conditioner.embedders.0.transformer.x", "conditioner.embedders.1.model.x"
TEXT = "a red monster\nNegative prompt: dark\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 3, Size: 64x64, RNG: NV, Foo: bar"


def told(path: Path) -> dict[str, Any]:
    """What a file is; checked to be JSON and to speak in sentences."""
    facts = inspect(path)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["words"][0].startswith(f"{path.name}: ")
    assert all(sentence.endswith(".") for sentence in facts["words"])
    return facts


def checkpoint(path: Path, channels: int, *keys: str, metadata: dict[str, str] | None = None) -> Path:
    """A file with the header of a checkpoint."""
    tensors = {key: torch.zeros(1) for key in keys} | {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(2, channels, 1, 1)}
    if path.suffix == ".safetensors":
        save_file(tensors, path, metadata=metadata)
    else:
        torch.save({"state_dict": tensors, "global_step": 7}, path)
    return path


@pytest.mark.parametrize(
    ("channels", "keys", "family", "resolution"),
    [
        (4, (CLIP,), "SD1", 512),
        (9, (CLIP,), "SD1 inpainting", 512),
        (4, (OPEN,), "SD2", 512),
        (9, (OPEN,), "SD2 inpainting", 512),
        (4, (XL_1, XL_2), "SDXL", 1024),
        (9, (XL_1, XL_2), "SDXL inpainting", 1024),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_checkpoints_of_every_family(tmp_path: Path, suffix: str, channels: int, keys: tuple[str, ...], family: str, resolution: int) -> None:
    facts = told(checkpoint(tmp_path / f"model{suffix}", channels, *keys))
    assert (facts["kind"], facts["family"], facts["resolution"], facts["inpainting"], facts["own_vae"]) == ("checkpoint", family, resolution, channels == 9, False)
    assert len(facts["hash"]) == 10
    assert facts["sha256"].startswith(facts["hash"])


def test_what_a_checkpoint_says_about_itself(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "v.safetensors", 4, OPEN, "first_stage_model.decoder.x", "model_ema.x", metadata={"modelspec.prediction_type": "v", "modelspec.title": "Velo"})
    facts = told(path)
    assert (facts["family"], facts["prediction"], facts["own_vae"], facts["ema"], facts["metadata"]["modelspec.title"]) == ("SD2 v", "v_prediction", True, True, "Velo")
    assert "predicts velocity" in facts["words"][0]


def test_a_checkpoint_folder_and_its_autoencoder() -> None:
    folder = SHIPPED_ROOT / "models" / "Stable-diffusion" / "tiny-world"
    assert (told(folder)["kind"], told(folder)["parts"]) == ("checkpoint", ["scheduler", "text_encoder", "unet", "vae"])
    assert told(folder / "vae")["kind"] == "vae"
    assert told(folder / "vae" / "diffusion_pytorch_model.safetensors")["layout"] == "diffusers"
    assert told(folder.parent)["kind"] == "folder"


@pytest.mark.parametrize("root", ["", "first_stage_model."])
def test_an_autoencoder_in_the_original_layout(tmp_path: Path, root: str) -> None:
    save_file({f"{root}decoder.conv_in.weight": torch.zeros(8, 4, 1, 1), f"{root}encoder.down.0.block.0.conv1.weight": torch.zeros(1)}, tmp_path / "v.vae.safetensors")
    facts = told(tmp_path / "v.vae.safetensors")
    assert (facts["kind"], facts["layout"], facts["channels"]) == ("vae", "original", 4)


def test_a_lora(tmp_path: Path) -> None:
    base = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    metadata = {"ss_output_name": "ink_v2", "ss_base_model_version": "sd_v1", "ss_steps": "900", "ss_tag_frequency": json.dumps({"10_ink": {"ink": 20, "tree": 3}, "5_x": {"tree": 30}})}
    save_file({f"{base}.lora_down.weight": torch.zeros(8, 768), f"{base}.lora_up.weight": torch.zeros(320, 8), f"{base}.alpha": torch.tensor(4.0)}, tmp_path / "ink.safetensors", metadata=metadata)
    facts = told(tmp_path / "ink.safetensors")
    assert (facts["kind"], facts["algorithm"], facts["family"], facts["rank"], facts["alias"], facts["tags"]) == ("adapter", "LoRA", "SD1", 8, "ink_v2", ["tree", "ink"])
    assert "<lora:ink:1> or <lora:ink_v2:1>" in " ".join(facts["words"])
    assert "steps 900" in " ".join(facts["words"])


@pytest.mark.parametrize("tags", ["", "{", "[]", "7", '{"a": 3}', '{"a": {"b": "x"}}', "null"])
def test_damaged_metadata_of_a_lora_is_passed_over(tmp_path: Path, tags: str) -> None:
    base = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    save_file({f"{base}.lora_down.weight": torch.zeros(2, 1024), f"{base}.lora_up.weight": torch.zeros(3, 2)}, tmp_path / "l.safetensors", metadata={"ss_tag_frequency": tags})
    facts = told(tmp_path / "l.safetensors")
    assert (facts["family"], facts["tags"]) == ("SD2", [])


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(("width", "family"), [(768, "SD1"), (1024, "SD2"), (2048, "SDXL"), (128, None)])
def test_an_embedding(tmp_path: Path, suffix: str, width: int, family: str | None) -> None:
    path = tmp_path / f"hero{suffix}"
    write_embedding(path, Embedding("hero", torch.ones(3, width), step=500, checkpoint_hash="cc6cb27103", checkpoint_name="v1-5"))
    facts = told(path)
    assert (facts["kind"], facts["family"], facts["vectors"], facts["width"]) == ("embedding", family, 3, width)
    if suffix == ".pt" and width != 2048:
        assert (facts["step"], facts["checkpoint_name"]) == (500, "v1-5")
        assert "Trained for 500 steps on v1-5." in facts["words"]


def test_an_embedding_under_its_own_word(tmp_path: Path) -> None:
    save_file({"<cat-toy>": torch.ones(2, 768)}, tmp_path / "learned_embeds.safetensors")
    assert told(tmp_path / "learned_embeds.safetensors")["kind"] == "embedding"


def test_a_picture_that_is_an_embedding(tmp_path: Path) -> None:
    picture, info = embed_in_png(Image.new("RGB", (64, 64), (90, 120, 30)), Embedding("rick", torch.ones(2, 768) * 0.02, step=60), png_info(TEXT))
    picture.save(tmp_path / "rick-60.png", pnginfo=info)
    facts = told(tmp_path / "rick-60.png")
    assert (facts["kind"], facts["embedding"], facts["vectors"], facts["infotext"]) == ("embedding", "rick", 2, TEXT)


def test_a_hypernetwork(tmp_path: Path) -> None:
    def half(width: int) -> dict[str, torch.Tensor]:
        inner = width * 3 // 2
        return {"linear.0.weight": torch.zeros(inner, width), "linear.0.bias": torch.zeros(inner), "linear.1.weight": torch.zeros(width, inner), "linear.1.bias": torch.zeros(width)}

    data = {8: (half(8), half(8)), 4: (half(4), half(4)), "layer_structure": [1, 1.5, 1], "activation_func": "relu", "is_layer_norm": False, "step": 2000, "name": "ink", "sd_checkpoint_name": "v1-5"}
    torch.save(data, tmp_path / "ink.pt")
    facts = told(tmp_path / "ink.pt")
    assert (facts["kind"], facts["widths"], facts["layer_structure"], facts["activation"], facts["layer_norm"]) == ("hypernetwork", [4, 8], [1, 1.5, 1], "relu", False)
    assert (facts["step"], facts["checkpoint_name"]) == (2000, "v1-5")


@pytest.mark.parametrize("broken", [{768: 1}, {768: ({}, {})}, {768: ({"a": 1}, {"a": 1})}, {True: 1}, {"layer_structure": [1]}, [], 7])
def test_what_only_looks_like_a_hypernetwork(tmp_path: Path, broken: object) -> None:
    torch.save(broken, tmp_path / "x.pt")
    assert told(tmp_path / "x.pt")["kind"] == "unknown"


def test_an_upscaler(tmp_path: Path) -> None:
    torch.save({"params_ema": ESRGAN(num_filters=8, num_blocks=1, scale=2).state_dict()}, tmp_path / "2x.pth")
    facts = told(tmp_path / "2x.pth")
    assert (facts["kind"], facts["scale"], facts["channels"]) == ("upscaler", 2, 3)


@pytest.mark.parametrize("form", ["png", "jpg", "webp", "avif", "gif"])
def test_a_picture_with_its_infotext(tmp_path: Path, form: str) -> None:
    write_picture(Image.new("RGB", (64, 48)), tmp_path / f"p.{form}", TEXT, form)
    facts = told(tmp_path / f"p.{form}")
    assert (facts["kind"], facts["width"], facts["height"], facts["infotext"]) == ("picture", 64, 48, TEXT)
    assert (facts["parameters"]["Sampler"], facts["values"]["steps"], facts["values"]["seed"]) == ("Euler", 20, 3)
    assert [note.partition(":")[0] for note in facts["notes"]] == ["Foo"]


def test_a_picture_of_another_program(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png", pnginfo=png_info("", {"workflow": "{}"}))
    facts = told(tmp_path / "p.png")
    assert (facts["infotext"], facts["texts"]) == ("", {"workflow": "{}"})
    assert "workflow" in facts["words"][1]


def test_styles_and_texts(tmp_path: Path) -> None:
    (tmp_path / "styles.csv").write_text("name,prompt,negative_prompt\nInk,ink drawing,photo\nNone,,\n", encoding="utf-8-sig")
    assert told(tmp_path / "styles.csv")["styles"] == ["Ink", "None"]
    (tmp_path / "i.txt").write_text(TEXT, encoding="utf-8")
    assert told(tmp_path / "i.txt")["parameters"]["Seed"] == "3"
    (tmp_path / "c.txt").write_text("a monster, red", encoding="utf-8")
    assert told(tmp_path / "c.txt")["kind"] == "text"
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Unreadable, match="UTF-8"):
        inspect(tmp_path / "b.txt")


def test_tensors_of_no_known_kind_name_what_they_hold(tmp_path: Path) -> None:
    save_file({"model.diffusion_model.double_blocks.0.x": torch.zeros(1)}, tmp_path / "flux.safetensors")
    facts = told(tmp_path / "flux.safetensors")
    assert facts["kind"] == "unknown"
    assert "Flux" in " ".join(facts["words"])
    (tmp_path / "notes.md").write_text("x", encoding="utf-8")
    assert told(tmp_path / "notes.md")["kind"] == "unknown"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty.safetensors", b""),
        ("short.safetensors", b"\x08\0\0\0"),
        ("words.safetensors", b"<!DOCTYPE html><html>not found</html>"),
        ("cut.safetensors", struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}     '),
        ("huge.safetensors", struct.pack("<Q", 2**60) + b"{"),
        ("words.ckpt", b"<!DOCTYPE html><html>not found</html>"),
        ("cut.pt", b"PK\x03\x04"),
    ],
)
def test_damaged_files_are_said(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(Unreadable, match=name.partition(".")[0]):
        inspect(tmp_path / name)


def test_nothing_in_a_pickle_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'pwned'}",)

    for name in ("evil.pt", "evil.ckpt", "evil.pth"):
        (tmp_path / name).write_bytes(pickle.dumps({"state_dict": Evil()}, protocol=2))
        with pytest.raises(Unreadable, match="evil"):
            inspect(tmp_path / name)
    assert not (tmp_path / "pwned").exists()


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="gone"):
        inspect(tmp_path / "gone.pt")


def test_as_a_job_the_words_are_told_and_hashes_remembered(root: Paths, lane: SilentLane, tiny_cache: ModelCache, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "m.safetensors", 4, CLIP)
    facts = run(InspectRequest(path=str(path)), lane, Desk(root, tiny_cache))
    assert lane.events == [("log", {"text": " ".join(facts["words"])})]
    assert str(path) in (root.outputs / "cache" / "hashes.json").read_text(encoding="utf-8")
