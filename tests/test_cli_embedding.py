"""Embeddings on the command line: one real worker, JSON for scripts, exit codes, and an option for every knob."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from studio import cli
from studio.config import Config
from studio.engine import Engine
from studio.formats.embedding import Embedding, read_embedding, write_embedding
from studio.requests.embedding_room import EditEmbeddingRequest, InspectEmbeddingRequest
from studio.settings import Paths
from tests.test_cli_data import engine, refused

__all__ = ["engine"]


def put(root: Paths, name: str, vectors: torch.Tensor) -> Path:
    path = root.embeddings / f"{name}.pt"
    write_embedding(path, Embedding(name, vectors, 12))
    return path


def test_everything_that_can_be_done_to_an_embedding(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = torch.arange(256.0).reshape(2, 128) / 100
    path = put(engine.paths, "hero", vectors)
    engine.keep_worker("test")

    def here(*words: str) -> Any:
        """What an act says as JSON."""
        assert cli.main(["embedding", *words, "--json", "--root", str(engine.paths.root)]) == 0
        return json.loads(capsys.readouterr().out)

    shown = here("show", "hero", "--nearest", "2")
    assert (shown["state"], shown["fits"], len(shown["encoders"][0]["nearest"][0])) == ("done", True, 2)
    assert cli.main(["embedding", "show", "hero", "--root", str(engine.paths.root)]) == 0
    plain = capsys.readouterr().out.splitlines()
    assert "2 vectors of width 128, 12 steps. It can be used with" in plain[0] and plain[2].startswith("2: length ")
    assert here("prune", "hero", "--keep", "2", "--result", "second")["vectors"] == 1
    merged = here("merge", "hero", "hero", "--how", "average", "--weights", "3,1", "--result", "mean")
    assert torch.allclose(read_embedding(Path(merged["path"])).vectors, vectors)
    away = here("convert", "hero", "--layout", "safetensors")
    assert Path(away["path"]).parent == engine.paths.outputs / "exports" / "embeddings" and path.exists()
    assert [one["name"] for one in here("list")] == ["hero", "mean", "second"]
    assert here("rename", "second", "duke")["name"] == "duke"
    here("duplicate", "duke", "twin")
    gone = here("delete", "duke")
    assert here("trash") == [gone]
    here("restore", gone["id"])
    assert sorted(p.stem for p in engine.paths.embeddings.iterdir()) == ["duke", "hero", "mean", "twin"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["prune", "hero", "--keep", "one"], "not a list of numbers"),
        (["prune", "hero", "--keep", ","], "at least one vector"),
        (["merge", "hero", "--result", "x"], "at least two"),
        (["convert", "hero", "--layout", "diffusers", "--shelf"], "cannot lie on the shelf"),
        (["convert", "hero", "--layout", "jpg"], "Layout"),
        (["rename", "nobody", "x"], "there is no 'nobody'"),
        (["rename", "hero", "HERO/x"], "Name: "),
        (["delete", "nobody"], "there is no 'nobody'"),
        (["restore", "../x"], "in the trash"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_refused_before_anything_is_done(root: Paths, capsys: pytest.CaptureFixture[str], words: list[str], reason: str) -> None:
    path = put(root, "hero", torch.ones(1, 8))
    assert reason in refused(["embedding", *words], root, capsys)
    assert (path.exists(), Engine(root).jobs()) == (True, [])


@pytest.mark.parametrize(
    ("act", "request_", "skipped"),
    [("show", InspectEmbeddingRequest, {"name"}), ("convert", EditEmbeddingRequest, {"act", "names", "keep", "how", "weights"}), ("merge", EditEmbeddingRequest, {"act", "names", "keep", "picture"})],
)
def test_help_names_every_option(capsys: pytest.CaptureFixture[str], act: str, request_: type[Config], skipped: set[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["embedding", act, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert [name for name in request_.model_fields if name not in skipped and f"--{name.replace('_', '-')} " not in text] == []
