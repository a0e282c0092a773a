"""A real training's folder, as the worker writes it: it reads whole, its weights go to the shelf, it is extended, and its card comes in as the same form."""

import io
import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from studio.errors import NotFound
from studio.jobs import SilentLane
from studio.requests.train import CreateEmbeddingRequest, TrainRequest
from studio.runs import acts, card, using
from studio.runs.in_use import in_use
from studio.runs.listing import listing
from studio.runs.reading import view
from studio.runs.weights import inside
from studio.services.desk import Desk
from studio.services.library import create_embedding
from studio.services.training import run
from studio.settings import Paths


@pytest.fixture
def pictures(root: Paths) -> Path:
    """Two pictures with captions."""
    data = root.datasets / "things"
    data.mkdir()
    for n, colour in enumerate(("teal", "orange")):
        Image.new("RGB", (128, 128), colour).save(data / f"{n}.png")
        (data / f"{n}.txt").write_text("a thing")
    return data


def test_a_word_and_its_lora_are_used_and_extended_together(root: Paths, tiny_cache: object, pictures: Path) -> None:
    desk = Desk(root, tiny_cache)
    knobs = {"name": "thing", "trigger": "thg", "data": str(pictures), "rank": 2, "steps": 2, "save_every": 1, "preview_every": 0, "probe_every": 0, "width": 64, "height": 64, "learn_rate": "0.01"}
    result = run(TrainRequest.check({"method": "together", "config": knobs}), SilentLane(job="abc"), desk)
    folder, lora, word = Path(result["run"]), root.lora / "thing.safetensors", root.embeddings / "thg.pt"
    seen = view(folder, None, {})
    assert (seen["method_title"], seen["embedding"], seen["whole"], seen["averages"]) == ("Embedding + LoRA", "thing", False, False)
    assert seen["usage"]["values"] == {"copy": "<lora:thing:1>", "trigger": "thg"} and 1 in [copy["step"] for copy in seen["saved"]]
    before = lora.read_bytes(), word.read_bytes()
    used = using.use(root, folder, 1)
    assert lora.read_bytes() != before[0] and word.read_bytes() != before[1]
    using.undo_use(root, folder, used["kept"])
    assert (lora.read_bytes(), word.read_bytes()) == before
    extended = run(TrainRequest.check(acts.going_on(root, folder.name, [], 3)), SilentLane(job="def"), desk)
    assert Path(extended["run"]) == folder and lora.read_bytes() != before[0]
    (root.outputs / "card.png").write_bytes(card.as_zip(root, folder.name))
    assert card.import_card(root, root.outputs / "card.png")["values"]["trigger"] == "thg"


def test_a_whole_checkpoint_is_chosen_and_keeps_no_copies(root: Paths, tiny_cache: object, pictures: Path) -> None:
    knobs = {"name": "thing", "data": str(pictures), "steps": 1, "preview_every": 1, "preview_steps": 1, "probe_every": 0, "width": 64, "height": 64, "trained_layers": "cross-attention"}
    folder = Path(run(TrainRequest.check({"method": "fine_tune", "config": knobs}), SilentLane(job="abc"), Desk(root, tiny_cache))["run"])
    seen = view(folder, None, {})
    assert (seen["whole"], seen["saved"], [p["weights"] for p in seen["previews"]]) == (True, [], ["", ""])
    assert (root.checkpoints / seen["usage"]["values"]["copy"]).is_file()
    with pytest.raises(NotFound, match="each would be a whole checkpoint"):
        using.use(root, folder, 1)


def test_a_real_run_reads_is_used_extended_and_given_away(root: Paths, tiny_cache: object, tmp_path: Path, pictures: Path) -> None:
    desk = Desk(root, tiny_cache)
    create_embedding(CreateEmbeddingRequest(name="thing", initialization_text="monster"), desk)
    knobs = {"embedding": "thing", "data": str(pictures), "steps": 6, "save_every": 2, "preview_every": 3, "preview_steps": 2, "probe_every": 3, "width": 64, "height": 64}
    result = run(TrainRequest.check({"config": knobs}), SilentLane(job="abc"), desk)
    folder = Path(result["run"])

    seen, row = view(folder, None, {}), listing(root.runs)[0]
    assert (seen["id"], seen["state"], seen["step"], seen["end"], len(seen["curve"])) == (folder.name, "done", 6, 6, 6)
    assert (row["id"], row["state"], row["step"], row["thumbnail"]["step"]) == (folder.name, "done", 6, 6)
    assert seen["probe"][0][:2] == [0, 0.0] and seen["probe"][-1][0] == 6
    assert [p["step"] for p in seen["previews"]] == [0, 3, 6] and all(inside(folder, p["path"]).is_file() for p in seen["previews"])
    assert {2, 4} <= {copy["step"] for copy in seen["saved"]} and seen["verdict"]["state"] and seen["facts"]["checkpoint_hash"]

    before = (root.embeddings / "thing.pt").read_bytes()
    used = using.use(root, folder, 2)
    assert (root.embeddings / "thing.pt").read_bytes() != before
    using.undo_use(root, folder, used["kept"])
    assert (root.embeddings / "thing.pt").read_bytes() == before

    assert seen["verdict"]["ended"] and seen["verdict"]["learning_rate"] == 0.005 and "eep training" not in seen["verdict"]["sentence"]
    named = in_use(root.root, folder, 6, seen["usage"])
    assert named and named["step"] == 6 and named["which"] in ("last", "both"), "the last step is what was saved"
    assert using.use(root, folder, None)["best"] is bool(seen["best"]) and using.use(root, folder, "last")["step"] == 6
    assert (root.embeddings / "thing.pt").read_bytes() == before

    extended = run(TrainRequest.check(acts.going_on(root, folder.name, [], 8)), SilentLane(job="def"), desk)
    told = [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in told if entry["ended"]] == [8], "what was said at the first end is said no more"
    assert Path(extended["run"]) == folder and [p[0] for p in view(folder, None, {})["curve"]] == list(range(1, 9))

    with zipfile.ZipFile(io.BytesIO(card.as_zip(root, folder.name))) as pack:
        held = b"".join(pack.read(name) for name in pack.namelist() if not name.endswith((".pt", ".png")))
    assert str(root.root).encode() not in held and b"a thing" not in held
    assert len(card.recipe(folder)["captions"]) == 16
    made = tmp_path / "card.png"
    made.write_bytes(card.as_png(root, folder.name))
    found = card.import_card(root, made)
    assert found["notes"] == []
    assert TrainRequest.check({"config": found["values"]}).config == TrainRequest.check({"config": {**knobs, "steps": 8, "checkpoint": found["values"]["checkpoint"]}}).config
