"""Hypernetworks by A1111's routes: created, trained and used."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from studio import shelves
from studio.engine import Engine
from studio.formats.embedding_optim import optim_path
from tests.api.served import Client, Refused


def test_a_hypernetwork_is_created_trained_and_used(client: Client, served: Engine, tmp_path: Path) -> None:
    body = {"name": "api/net", "enable_sizes": [320, "768"], "layer_structure": "1, 2, 1", "activation_func": "relu", "weight_init": "KaimingNormal", "add_layer_norm": False}
    made = client.post("create/hypernetwork", {**body, "use_dropout": True, "dropout_structure": [0, 0.1, 0]})
    file = served.paths.hypernetworks / "apinet.pt"
    assert made == {"info": f"create hypernetwork filename: {file}"}
    with pytest.raises(Refused, match="taken"):
        client.post("create/hypernetwork", {"name": "apinet"})
    data = torch.load(file, weights_only=True)
    assert (data["activation_func"], data["dropout_structure"], data["use_dropout"], data["step"]) == ("relu", [0, 0.1, 0], True, None)
    for number, picture in enumerate(shelves.images(shelves.sample_pictures())[:2]):
        Image.open(picture).convert("RGB").save(tmp_path / f"{number}.png")
    asked = {"hypernetwork_name": "apinet", "learn_rate": "0.001", "data_root": str(tmp_path), "training_width": 64, "training_height": 64, "steps": 2, "template_filename": "none.txt"}
    trained = client.post("train/hypernetwork", {**asked, "id_task": "task(net)", "create_image_every": 0, "save_hypernetwork_every": 0, "log_directory": "textual_inversion"})
    assert trained["info"] == f"train embedding complete: filename: {file} error: None"
    after = torch.load(file, weights_only=True)
    assert (after["step"], after["activation_func"], after["sd_checkpoint_name"]) == (2, "relu", "tiny-world")
    assert {"name": "apinet", "path": str(file)} in client.get("hypernetworks")
    plain, worn = (client.txt2img(prompt=f"a monster{text}", width=64, height=64)[0][0] for text in ("", " <hypernet:apinet:1>"))
    assert plain.tobytes() != worn.tobytes()
    for left in (file, optim_path(file)):
        left.unlink()


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("create/hypernetwork", {"name": ""}, "Name"),
        ("create/hypernetwork", {"name": "x", "layer_structure": "1, 2"}, "begin and end with 1"),
        ("create/hypernetwork", {"name": "x", "activation_func": "magic"}, "magic"),
        ("create/hypernetwork", {"name": "x", "enable_sizes": [77]}, "77"),
        ("create/hypernetwork", {"name": "x", "use_dropout": True, "dropout_structure": "0, 1, 0"}, "below 1"),
        ("train/hypernetwork", {"hypernetwork_name": "nobody", "data_root": str(shelves.sample_pictures())}, "nobody"),
    ],
)
def test_mistakes_are_told(client: Client, path: str, body: dict, word: str) -> None:
    with pytest.raises(Refused) as refused:
        client.post(path, body)
    assert (refused.value.status, word in refused.value.body["detail"]) == (422, True), refused.value.body
