"""What a run learned goes onto its shelves and comes away again: every kind, what belongs together, nothing lost, nothing outside."""

import json
from pathlib import Path

import pytest

from studio.errors import Conflict, InputError, NotFound
from studio.jobs import JobStore
from studio.runs import using, weights
from studio.runs.reading import view
from studio.settings import Paths
from tests.runs.folders import full

RUN = "2026-01-02-hero-abc"


@pytest.fixture
def run(root: Paths) -> Path:
    return full(root.runs / RUN)


def of_method(run: Path, method: str, shelves: dict[str, str], **knobs: object) -> Path:
    """The run as one of another method, with copies of steps 0 and 20 for every shelf."""
    noted = json.loads((run / "config.json").read_text())
    config = {"name": "hero", "data": "/nowhere/hero", **knobs}
    (run / "config.json").write_text(json.dumps({"method": method, "config": config, "facts": {**noted["facts"], "shelves": shelves}}))
    for file in (run / "embeddings").iterdir():
        file.unlink()
    for step in (0, 20):
        for end in shelves:
            (run / f"embeddings/hero-{step}{end}").write_bytes(f"{step}{end}".encode())
    return run


def test_an_older_run_s_embedding_goes_to_the_shelf_and_what_lay_there_comes_back(root: Paths, run: Path) -> None:
    shelf = root.embeddings / "hero.pt"
    shelf.write_bytes(b"by hand")
    used = using.use(root, run, 20)
    assert shelf.read_bytes() == b"weights at 20" and used["replaced"] != used["hash"]
    best = using.use(root, run, "best")
    assert shelf.read_bytes() == b"the best"
    using.undo_use(root, run, best["kept"])
    assert shelf.read_bytes() == b"weights at 20"
    using.undo_use(root, run, used["kept"])
    assert shelf.read_bytes() == b"by hand"
    using.use(root, run, "embeddings/hero-0.pt", "hero-untaught")
    assert (root.embeddings / "hero-untaught.pt").read_bytes() == b"weights at 0" and shelf.read_bytes() == b"by hand"
    for which, new, wrong in ((21, "", NotFound), ("config.json", "", InputError), ("samples/000020-0.png", "", InputError), (0, "hero-untaught", Conflict), (0, "a/b", InputError)):
        with pytest.raises(wrong):
            using.use(root, run, which, new)
    other = root.outputs / "trash/embeddings/other~20260101-000000.pt"
    other.write_bytes(b"not of this run")
    for kept in (["../../../settings.json"], ["embeddings/../../hero~20260101-000000.pt"], [f"embeddings/{other.name}"], []):
        with pytest.raises(NotFound):
            using.undo_use(root, run, kept)


def test_every_embedding_of_the_word_makes_room_and_comes_back(root: Paths, run: Path) -> None:
    for name in ("Hero.safetensors", "hero.pt"):
        (root.embeddings / name).write_bytes(name.encode())
    used = using.use(root, run, 20)
    assert [file.name for file in root.embeddings.iterdir()] == ["hero.pt"] and len(used["kept"]) == 2
    using.undo_use(root, run, used["kept"])
    assert {file.name: file.read_bytes() for file in root.embeddings.iterdir()} == {name: name.encode() for name in ("Hero.safetensors", "hero.pt")}


def test_a_lora_and_its_word_go_together_and_come_back_together(root: Paths, run: Path) -> None:
    of_method(run, "together", {".safetensors": "models/Lora/people/hero.safetensors", ".pt": "embeddings/hro.pt"})
    lora, word = root.lora / "people/hero.safetensors", root.embeddings / "hro.pt"
    lora.parent.mkdir(parents=True)
    lora.write_bytes(b"by hand")
    assert [copy["path"] for copy in view(run, None, {})["saved"]] == ["embeddings/hero-0.safetensors", "embeddings/hero-20.safetensors"]
    used = using.use(root, run, 20)
    assert (lora.read_bytes(), word.read_bytes(), used["name"], used["path"]) == (b"20.safetensors", b"20.pt", "hero", str(lora))
    assert [kept.split("~")[0] for kept in used["kept"]] == ["Lora/hero"]
    again = using.undo_use(root, run, used["kept"])
    assert lora.read_bytes() == b"by hand" and not word.exists(), "there was no such word before"
    using.undo_use(root, run, again["kept"])
    assert (lora.read_bytes(), word.read_bytes()) == (b"20.safetensors", b"20.pt")
    using.use(root, run, 0, "young")
    assert (lora.with_name("young.safetensors").read_bytes(), word.with_name("young.pt").read_bytes()) == (b"0.safetensors", b"0.pt")


def test_nothing_is_replaced_while_a_training_of_it_waits(root: Paths, run: Path) -> None:
    of_method(run, "hypernetwork", {".pt": "models/hypernetworks/hero.pt"})
    JobStore(root.database).submit("train", {"method": "hypernetwork", "config": {"name": "Hero"}})
    with pytest.raises(Conflict, match="queued"):
        using.use(root, run, 20)
    assert not list(root.hypernetworks.iterdir())


def test_a_whole_checkpoint_has_no_copies_and_says_so(root: Paths, run: Path) -> None:
    of_method(run, "fine_tune", {".safetensors": "models/Stable-diffusion/hero.safetensors"})
    for file in (run / "embeddings").iterdir():
        file.unlink()
    for which in (20, "best"):
        with pytest.raises(NotFound, match="each would be a whole checkpoint"):
            using.use(root, run, which)
    seen = view(run, None, {})
    assert (seen["whole"], seen["best"]["path"], seen["saved"]) == (True, "", [])


@pytest.mark.parametrize("place", ["../outside/hero.pt", "/etc/hero.pt", "outputs/runs/hero.pt", "models/Lora/../../hero.pt"])
def test_a_shelf_outside_the_shelves_is_refused(root: Paths, run: Path, place: str) -> None:
    of_method(run, "lora", {".pt": place})
    with pytest.raises(InputError, match=r"config\.json"):
        using.use(root, run, 20)


@pytest.mark.parametrize(
    ("method", "shelves", "knobs", "said"),
    [
        ("textual_inversion", {".pt": "embeddings/hero.pt"}, {"embedding": "hero"}, "write hero in a prompt to use it."),
        ("lora", {".safetensors": "models/Lora/hero.safetensors"}, {"trigger": "hro", "class_word": "man"}, "write <lora:hero:1> and hro man in a prompt to use it."),
        ("lycoris", {".safetensors": "models/Lora/hero.safetensors"}, {}, "write <lora:hero:1> and hero in a prompt to use it."),
        ("together", {".safetensors": "models/Lora/hero.safetensors", ".pt": "embeddings/hero.pt"}, {"trigger": "hro"}, "write <lora:hero:1> and hero in a prompt to use it."),
        ("hypernetwork", {".pt": "models/hypernetworks/hero.pt"}, {}, "write <hypernet:hero:1> in a prompt to use it."),
        ("fine_tune", {".safetensors": "models/Stable-diffusion/hero.safetensors"}, {}, "choose hero.safetensors as the checkpoint to use it."),
        (
            "dreambooth",
            {".safetensors": "models/Stable-diffusion/hero.safetensors"},
            {"prior": "none", "trigger": "hro"},
            "choose hero.safetensors as the checkpoint and write hro in a prompt to use it.",
        ),
        ("dreambooth", {".safetensors": "models/Lora/hero.safetensors"}, {"prior": "none", "result": "LoRA"}, "write <lora:hero:1> and hero in a prompt to use it."),
    ],
)
def test_how_it_is_used_is_said(run: Path, method: str, shelves: dict[str, str], knobs: dict[str, str], said: str) -> None:
    usage = view(of_method(run, method, shelves, **knobs), None, {})["usage"]
    assert usage["text"] in using.USAGE and usage["text"].format(**usage["values"]) == said


def test_copies_of_one_step_count_once(run: Path) -> None:
    of_method(run, "together", {".safetensors": "models/Lora/hero.safetensors", "-bundle.safetensors": "models/Lora/hero-bundle.safetensors", ".pt": "embeddings/hero.pt"})
    assert {step: file.name for step, file in weights.copies(run).items()} == {0: "hero-0.safetensors", 20: "hero-20.safetensors"}
    assert list(weights.parts_of(run, weights.weights_of(run, 20))) == [".safetensors", "-bundle.safetensors", ".pt"]
