"""The default checkpoint: never a damaged file, whatever its name; the one that was used last; the shipped one only alone."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from studio.default_checkpoint import UNET, default_checkpoint, is_readable_checkpoint, remember_checkpoint
from studio.diffusion.loading import find_checkpoint
from studio.settings import Paths

STATE = {f"{UNET}input_blocks.0.0.weight": torch.ones(4, 4), "cond_stage_model.x": torch.ones(2)}


def cut(path: Path, share: float = 0.6) -> Path:
    """A file that was not copied to its end."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def written(path: Path, state: dict[str, torch.Tensor] = STATE) -> Path:
    """A small checkpoint of the file's kind."""
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state}, path)
    return path


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_damaged_file_whose_name_sorts_first_is_not_the_default(root: Paths, suffix: str) -> None:
    cut(written(root.checkpoints / f"aaa{suffix}"))
    (root.checkpoints / "aab.safetensors").write_bytes(b"")
    (root.checkpoints / "aac.ckpt").write_text("<html>not found</html>")
    written(root.checkpoints / "aad.safetensors", {"lora_unet_x.lora_down.weight": torch.ones(2)})
    assert default_checkpoint(root) == "tiny-world"
    good = written(root.checkpoints / f"zzz{suffix}")
    assert default_checkpoint(root) == good.name
    assert find_checkpoint(root, "") == good


def test_the_checkpoint_that_was_used_last_comes_first(root: Paths) -> None:
    a, b = (written(root.checkpoints / f"{name}.safetensors") for name in "ab")
    assert default_checkpoint(root) == "a.safetensors"
    remember_checkpoint(root, b)
    assert default_checkpoint(root) == "b.safetensors"
    remember_checkpoint(root, find_checkpoint(root, "tiny-world"))
    assert default_checkpoint(root) == "a.safetensors"
    remember_checkpoint(root, b)
    cut(b, 0.5)
    assert default_checkpoint(root) == "a.safetensors"
    a.unlink()
    (root.outputs / "cache" / "last-checkpoint.json").write_text("{")
    assert default_checkpoint(root) == "tiny-world"


def test_kinds_of_files(tmp_path: Path) -> None:
    assert is_readable_checkpoint(written(tmp_path / "a.ckpt")) and is_readable_checkpoint(written(tmp_path / "a.safetensors"))
    old = tmp_path / "old.ckpt"
    torch.save({"state_dict": STATE}, old, _use_new_zipfile_serialization=False)
    assert is_readable_checkpoint(old)
    with zipfile.ZipFile(tmp_path / "zip.ckpt", "w") as archive:
        archive.writestr("readme.txt", "x")
    assert not is_readable_checkpoint(tmp_path / "zip.ckpt") and not is_readable_checkpoint(tmp_path / "none.ckpt")
    folder = tmp_path / "folder"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text("{")
    assert not is_readable_checkpoint(folder)
    (folder / "model_index.json").write_text(json.dumps({}))
    assert not is_readable_checkpoint(folder)
    (folder / "unet" / "config.json").write_text("{}")
    assert is_readable_checkpoint(folder)
