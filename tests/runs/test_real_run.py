"""A real training's folder, as the worker writes it: it reads whole, its weights go to the shelf, it is extended, and its card comes in as the same form."""

import io
import zipfile
from pathlib import Path

from PIL import Image

from studio.jobs import SilentLane
from studio.requests.train import CreateEmbeddingRequest, TrainRequest
from studio.runs import acts, card
from studio.runs.listing import listing
from studio.runs.reading import view
from studio.services.desk import Desk
from studio.services.library import create_embedding
from studio.services.training import run
from studio.settings import Paths


def test_a_real_run_reads_is_used_extended_and_given_away(root: Paths, tiny_cache: object, tmp_path: Path) -> None:
    data = root.datasets / "things"
    data.mkdir()
    for n, colour in enumerate(("teal", "orange")):
        Image.new("RGB", (128, 128), colour).save(data / f"{n}.png")
        (data / f"{n}.txt").write_text("a thing")
    desk = Desk(root, tiny_cache)
    create_embedding(CreateEmbeddingRequest(name="thing", initialization_text="monster"), desk)
    knobs = {"embedding": "thing", "data": str(data), "steps": 6, "save_every": 2, "preview_every": 3, "preview_steps": 2, "probe_every": 3, "width": 64, "height": 64}
    result = run(TrainRequest.check({"config": knobs}), SilentLane(job="abc"), desk)
    folder = Path(result["run"])

    seen, row = view(folder, None, {}), listing(root.runs)[0]
    assert (seen["id"], seen["state"], seen["step"], seen["end"], len(seen["curve"])) == (folder.name, "done", 6, 6, 6)
    assert (row["id"], row["state"], row["step"], row["thumbnail"]["step"]) == (folder.name, "done", 6, 6)
    assert seen["probe"][0][:2] == [0, 0.0] and seen["probe"][-1][0] == 6
    assert [p["step"] for p in seen["previews"]] == [0, 3, 6] and all(acts.inside(folder, p["path"]).is_file() for p in seen["previews"])
    assert {2, 4} <= {copy["step"] for copy in seen["saved"]} and seen["verdict"]["kind"] and seen["facts"]["checkpoint_hash"]

    before = (root.embeddings / "thing.pt").read_bytes()
    used = acts.use(root, folder.name, 2)
    assert (root.embeddings / "thing.pt").read_bytes() != before
    acts.undo_use(root, used["kept"])
    assert (root.embeddings / "thing.pt").read_bytes() == before

    extended = run(TrainRequest.check(acts.going_on(root, folder.name, [], 8)), SilentLane(job="def"), desk)
    assert Path(extended["run"]) == folder and [p[0] for p in view(folder, None, {})["curve"]] == list(range(1, 9))

    with zipfile.ZipFile(io.BytesIO(card.as_zip(root, folder.name))) as pack:
        inside = b"".join(pack.read(name) for name in pack.namelist() if not name.endswith((".pt", ".png")))
    assert str(root.root).encode() not in inside and b"a thing" not in inside
    assert len(card.recipe(folder)["captions"]) == 16
    made = tmp_path / "card.png"
    made.write_bytes(card.as_png(root, folder.name))
    found = card.import_card(root, made)
    assert found["notes"] == []
    assert TrainRequest.check({"config": found["values"]}).config == TrainRequest.check({"config": {**knobs, "steps": 8, "checkpoint": found["values"]["checkpoint"]}}).config
