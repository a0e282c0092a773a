"""Tools on the command line: each command asks for what its words say; metadata are told without a job."""

import importlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from studio import cli
from studio.cli import tools
from studio.config import Config
from studio.engine import Engine
from studio.settings import Paths
from studio.worker import ASIDE, SERVICES


def test_every_command_asks_for_its_request(root: Paths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Config] = []
    monkeypatch.setattr(tools, "follow", lambda engine, request, as_json: asked.append(request) or 0)
    (tmp_path / "b.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    for words in (
        ["merge", "a", "./b.safetensors", "--multiplier", "0.5", "--no-save-metadata"],
        ["merge-lora", "<lora:a:1>", "--method", "SVD"],
        ["extract-lora", "a", "b", "--conv-rank", "8"],
        ["resize-lora", "a", "--method", "Ratio", "--target", "10"],
        ["bake-lora", "a", "<lora:b:0.5>"],
        ["convert", "a", "--layout", "Diffusers folder"],
    ):
        assert cli.main([*words, "--root", str(root.root)]) == 0
    merge, _, extract, resize, bake, convert = asked
    assert (merge.primary, merge.secondary, merge.multiplier, merge.save_metadata) == ("a", str(tmp_path / "b.safetensors"), 0.5, False)
    assert (extract.original, extract.conv_rank, resize.target, bake.loras, convert.layout) == ("b", 8, 10.0, "<lora:b:0.5>", "Diffusers folder")
    for request in asked:
        kind = Engine(root).job(Engine(root).submit(request)).kind
        assert kind in ASIDE and callable(importlib.import_module(dict(SERVICES)[kind]).run)


def test_what_a_header_says_is_shown(root: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    path = root.lora / "hero.safetensors"
    save_file({"a": torch.zeros(3, 2).half(), "b": torch.zeros(5)}, path, metadata={"ss_tag_frequency": '{"x": {"hat": 2}}', "modelspec.title": "Hero", "sshs_model_hash": "ab" * 32})
    assert cli.main(["metadata", "hero", "--root", str(root.root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"file: {path}", f"size: {path.stat().st_size:,} bytes", "tensors: 2", "numbers: 6 F16, 5 F32", f"hash: {'ab' * 32}", "modelspec.title: Hero", *lines[-2:]]
    assert cli.main(["metadata", str(path), "--root", str(root.root), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metadata"]["ss_tag_frequency"] == {"x": {"hat": 2}} and told["numbers"] == {"F16": 6, "F32": 5}
    assert cli.main(["metadata", "nowhere", "--root", str(root.root)]) == 2
    (root.checkpoints / "old.ckpt").touch()
    assert cli.main(["metadata", str(root.checkpoints / "old.ckpt"), "--root", str(root.root)]) == 2
    assert "no .safetensors file" in capsys.readouterr().err
