"""A1111's folder of a training: the losses as its csv module writes them, its settings' keys, and what a disk that refuses does to a run (nothing)."""

import csv
import json
from datetime import datetime
from pathlib import Path

import pytest
import torch
from PIL import Image

from studio.formats.carriers import png_info
from studio.formats.embedding import Embedding, read_embedding, write_embedding
from studio.requests.train import HypernetworkConfig, TextualInversionConfig
from studio.services.a1111_log import LOSSES, A1111Log
from studio.settings import Paths

BEGAN = datetime(2026, 3, 9, 23, 59, 7)
A1111_KEYS = {
    "batch_size",
    "clip_grad_mode",
    "clip_grad_value",
    "create_image_every",
    "data_root",
    "datetime",
    "embedding_name",
    "gradient_step",
    "initial_step",
    "latent_sampling_method",
    "learn_rate",
    "log_directory",
    "model_hash",
    "model_name",
    "num_of_dataset_images",
    "num_vectors_per_token",
    "preview_cfg_scale",
    "preview_height",
    "preview_negative_prompt",
    "preview_prompt",
    "preview_seed",
    "preview_steps",
    "preview_width",
    "save_embedding_every",
    "save_image_with_stored_embedding",
    "steps",
    "template_file",
    "training_height",
    "training_width",
}


def opened(root: Paths, began: datetime = BEGAN) -> A1111Log:
    return A1111Log(root, "hero", began, TextualInversionConfig(embedding="hero", data="pictures", preview_every=50, save_every=0))


def test_losses_are_what_a1111_writes(root: Paths) -> None:
    log = opened(root)
    for step, loss in ((1, 0.12345678), (4, 0.5), (5, 1 / 3)):
        assert log.row(step, 4, loss, 0.005) == ""
    assert log.flush() == ""
    path = root.outputs / "textual_inversion" / "2026-03-09" / "hero" / LOSSES
    assert path.read_bytes() == b"step,epoch,epoch_step,loss,learn_rate\r\n1,0,0,0.1234568,0.005\r\n4,0,3,0.5000000,0.005\r\n5,1,0,0.3333333,0.005\r\n"


def test_a_run_that_goes_on_cuts_its_losses_back_and_leaves_the_same_file(root: Paths) -> None:
    whole = opened(root)
    for step in range(1, 8):
        whole.row(step, 3, step / 7, 0.01)
    whole.flush()
    expected = (whole.folder / LOSSES).read_bytes()
    with (whole.folder / LOSSES).open("ab") as file:
        file.write(b"8,2,1,0.12")
    whole.settings()
    again = opened(root)
    assert again.folder == whole.folder
    again.rewind(4)
    assert [row["step"] for row in csv.DictReader((again.folder / LOSSES).open(newline=""))] == ["1", "2", "3", "4"]
    for step in range(5, 8):
        again.row(step, 3, step / 7, 0.01)
    again.flush()
    assert (again.folder / LOSSES).read_bytes() == expected


def test_settings_have_a1111s_keys_and_a_second_run_of_the_day_writes_over_nothing(root: Paths) -> None:
    first = opened(root)
    assert first.settings(model_name="tiny", model_hash="0123456789", num_of_dataset_images=12, num_vectors_per_token=2, training_width=128, training_height=128) == ""
    told = json.loads((first.folder / "settings-2026-03-09-23-59-07.json").read_text(encoding="utf-8"))
    assert A1111_KEYS - set(told) == set()
    assert (told["datetime"], told["embedding_name"], told["num_of_dataset_images"], told["create_image_every"], told["training_width"], told["preview_width"]) == (
        "2026-03-09 23:59:07",
        "hero",
        12,
        50,
        128,
        128,
    )
    later = opened(root, BEGAN.replace(hour=23, second=8))
    assert later.folder.name == "hero-2"
    later.settings()
    (root.outputs / "textual_inversion" / "2026-03-10" / "hero").mkdir(parents=True)
    (root.outputs / "textual_inversion" / "2026-03-10" / "hero" / LOSSES).write_text("losses that A1111 left")
    assert opened(root, BEGAN.replace(day=10)).folder.name == "hero-2"
    assert (opened(root).folder, opened(root, BEGAN.replace(second=8)).folder) == (first.folder, later.folder)


def test_copies_and_pictures_are_there_under_a1111s_names_and_carry_what_they_should(root: Paths, tmp_path: Path) -> None:
    log, weights, picture = opened(root), tmp_path / "hero-50.pt", tmp_path / "000050.png"
    write_embedding(weights, Embedding("hero-50", torch.ones(2, 8), 50))
    Image.new("RGB", (64, 64), "teal").save(picture, pnginfo=png_info("a photo of hero\nSteps: 15, Seed: 1"))
    second = tmp_path / "000050-1.png"
    second.write_bytes(picture.read_bytes())
    assert [log.copy(weights), log.image(picture), log.image(second), log.embedded(picture, weights)] == [""] * 4
    assert sorted(p.relative_to(log.folder).as_posix() for p in log.folder.rglob("*.*")) == ["embeddings/hero-50.pt", "image_embeddings/hero-50.png", "images/hero-50-2.png", "images/hero-50.png"]
    with Image.open(log.folder / "images" / "hero-50.png") as shown, Image.open(log.folder / "image_embeddings" / "hero-50.png") as shared:
        assert shown.info["parameters"] == shared.info["parameters"] == "a photo of hero\nSteps: 15, Seed: 1"
    back = read_embedding(log.folder / "image_embeddings" / "hero-50.png")
    assert (back.name, back.step, torch.equal(back.vectors, torch.ones(2, 8))) == ("hero-50", 50, True)
    weights.write_bytes(b"")
    write_embedding(weights, Embedding("hero-50", torch.zeros(2, 8), 50))
    log.copy(weights)
    assert not read_embedding(log.folder / "embeddings" / "hero-50.pt").vectors.any()


@pytest.mark.parametrize("act", ["settings", "copy", "image", "embedded", "flush"])
def test_a_disk_that_refuses_is_told_once_and_ends_nothing(root: Paths, tmp_path: Path, act: str) -> None:
    (root.outputs / "textual_inversion").write_text("a file where the folder should be")
    log = opened(root)
    file = tmp_path / "x.png"
    file.write_text("x")
    log.row(1, 1, 0.5, 0.1)
    calls = {
        "settings": log.settings,
        "copy": lambda: log.copy(tmp_path / "x.png"),
        "image": lambda: log.image(tmp_path / "x.png"),
        "embedded": lambda: log.embedded(tmp_path / "x.png", tmp_path / "x.png"),
    }
    said = calls.get(act, log.flush)()
    assert "could not be written" in said
    assert calls.get(act, log.flush)() == ""
    (root.outputs / "textual_inversion").unlink()
    assert log.flush() == ""
    assert (log.folder / LOSSES).read_text().count("\n") == 2


def test_a_hypernetworks_losses_settings_and_copies_are_under_its_own_names(root: Paths, tmp_path: Path) -> None:
    config = HypernetworkConfig(name="net", data="x", layer_structure="1, 1.5, 1", activation="swish", dropout_structure="0, 0.2, 0")
    log, weights = A1111Log(root, "net", BEGAN, config), tmp_path / "net-50.pt"
    weights.write_bytes(b"net")
    log.row(1, 1, 0.5, 0.1)
    assert [log.flush(), log.copy(weights), log.embedded(tmp_path / "0.png", weights), log.settings()] == [""] * 4
    assert sorted(p.relative_to(log.folder).as_posix() for p in log.folder.rglob("*.*")) == ["hypernetwork_loss.csv", "hypernetworks/net-50.pt", "settings-2026-03-09-23-59-07.json"]
    told = json.loads(next(log.folder.glob("*.json")).read_text())
    own = {"activation_func", "add_layer_norm", "hypernetwork_name", "layer_structure", "save_hypernetwork_every", "use_dropout", "weight_init"}
    embeddings = {"embedding_name", "num_vectors_per_token", "save_embedding_every", "save_image_with_stored_embedding"}
    assert set(told) == (A1111_KEYS - embeddings) | own | {"preview_sampler_name"}
    assert (told["hypernetwork_name"], told["layer_structure"], told["use_dropout"]) == ("net", [1, 1.5, 1], True)
