"""Adding a method touches one new file, one class of knobs and the table: the form, the presets, the command line, the API and the matrix find it by themselves."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
KNOBS = '''class ScalesConfig(NamedConfig):
    """The knobs of attention scales: one number for each channel that attention gives out."""

    method: ClassVar[str] = "scales"
    title: ClassVar[str] = "Attention scales"

    which: Literal["cross-attention", "every attention"] = Field("cross-attention", title="Which attention")
    """The attention whose outputs are scaled."""
    gentleness: float = Field(1.0, gt=0, le=10, title="Gentleness", json_schema_extra={"more": True})
    """What the scales' rate is divided by."""


'''
METHOD = '''"""Attention scales: what attention gives out is multiplied by numbers that learn."""

from pathlib import Path

import torch

from studio.diffusion.growing import Grown, Recipe
from studio.diffusion.model import Model
from studio.diffusion.targets import layers_of
from studio.requests.train import ScalesConfig
from studio.training.methods.lora import Lora, Rates, mistakes, shelves, start_of
from studio.training.methods.trainable import Method


def attach(model: Model, start: Path | None, config: ScalesConfig) -> Lora:
    """Scales on a model."""
    ends = ("attn2.to_out.0",) if config.which == "cross-attention" else ("attn1.to_out.0", "attn2.to_out.0")
    chosen = [layer for layer in layers_of(model, "attention", text=False) if layer.path.endswith(ends)]
    blocks = {layer.block: 1 / config.gentleness for layer in chosen}
    return Lora(Grown(model, chosen, Recipe("IA3", 1, 1.0, 0, 0.0)), Rates(blocks=blocks), torch.float32)


SCALES = Method(ScalesConfig, attach, shelves, start_of, mistakes=mistakes)
'''
FACES = """
import json, sys
from pathlib import Path
from fastapi.testclient import TestClient
from studio.api.app import create_app
from studio.engine import Engine
from studio.requests import TrainRequest
from studio.settings import Paths
from studio.ui.method_form import own_controls

paths = Paths(Path(sys.argv[1])).prepare()
http = TestClient(create_app(Engine(paths)), base_url="http://127.0.0.1")
page = http.get("/config").json()
parts = {part["props"].get("elem_id"): part["props"] for part in page["components"]}
config = {"name": "gnarl", "data": sys.argv[2], "which": "every attention"}
job = http.post("/studio/v1/jobs/train", json={"method": "scales", "config": config}).json()
wrong = http.post("/studio/v1/jobs/train", json={"method": "scales", "config": {**config, "name": "other", "which": "none"}})
preset = http.get("/studio/v1/presets", params={"method": "scales"}).json()
print(json.dumps({
    "chosen": parts["train_method"]["choices"],
    "knob": [parts["train_which"][key] for key in ("label", "info", "visible")],
    "finer": parts["train_gentleness"]["label"],
    "methods": sorted(own_controls()["which"][1]),
    "queued": http.get(f"/studio/v1/jobs/{job['id']}").json()["request"]["config"]["which"],
    "wrong": [wrong.status_code, wrong.text],
    "preset": [preset["values"], preset["fits"]["sentence"], preset["choices"]["methods"]],
    "schema": TrainRequest.model_json_schema()["properties"]["method"]["enum"],
    "checked": TrainRequest.check({"method": "scales", "config": config}).config.which,
    "torch": "torch" in sys.modules,
}))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with one method more."""
    copy = tmp_path_factory.mktemp("tree")
    for folder in ("studio", "static", "textual_inversion_templates"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "models" / "Stable-diffusion" / "tiny-world", copy / "models" / "Stable-diffusion" / "tiny-world")
    for name in ("tests/training/matrix.py", "tests/diffusion/originals.py"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    added(copy)
    return copy


def added(copy: Path) -> None:
    """One new file, one class, and a line of the table with its import."""
    methods = copy / "studio" / "training" / "methods"
    (methods / "scales.py").write_text(METHOD, encoding="utf-8")
    for path, mark, text in (
        (copy / "studio" / "requests" / "train.py", "CONFIGS: tuple[", KNOBS),
        (methods / "__init__.py", ')\n"""Every method', "    SCALES,\n"),
        (methods / "__init__.py", "from studio.training.methods.textual_inversion", "from studio.training.methods.scales import SCALES\n"),
    ):
        source = path.read_text(encoding="utf-8")
        assert source.count(mark) == 1, f"{mark!r} stands {source.count(mark)} times in {path.name}"
        path.write_text(source.replace(mark, text + mark), encoding="utf-8")


def said(tree: Path, *words: str) -> str:
    """What Python says in the copy."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1", "COLUMNS": "900"}
    done = subprocess.run([sys.executable, *words], cwd=tree, env=environment, capture_output=True, text=True, encoding="utf-8", check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_form_the_presets_and_the_api_have_it(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").touch()
    found = json.loads(said(tree, "-c", FACES, str(tmp_path / "studio"), str(tmp_path / "data")).splitlines()[-1])
    assert ["Attention scales", "scales"] in found["chosen"]
    assert found["knob"] == ["Which attention", "The attention whose outputs are scaled.", False]
    assert found["finer"] == "Gentleness"
    assert found["methods"] == ["scales"]
    assert found["queued"] == found["checked"] == "every attention"
    assert found["wrong"][0] == 422 and "cross-attention" in found["wrong"][1]
    assert found["preset"][:2] == [{}, "No source states how much graphics memory Attention scales needs."]
    assert "scales" in found["preset"][2] and "scales" in found["schema"]
    assert not found["torch"], "the faces know it without torch"


def test_the_command_line_has_it(tree: Path) -> None:
    help_of = " ".join(said(tree, "-m", "studio", "train", "scales", "--help").split())
    for knob in ("--which", "cross-attention, every attention", "The attention whose outputs are scaled.", "--gentleness", "--name", "--steps"):
        assert knob in help_of, knob
    assert "Attention scales" in said(tree, "-m", "studio", "train", "--help")


@contextmanager
def in_place_of_ours(tree: Path) -> Iterator[None]:
    """Within the block, `studio` and `tests` are imported anew from the copy; torch and the like, which take many seconds, are those that are loaded."""
    kept = {name: sys.modules.pop(name) for name in _ours()}
    sys.path.insert(0, str(tree))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(tree))
        for name in _ours():
            del sys.modules[name]
        sys.modules.update(kept)


def _ours() -> list[str]:
    """Names of the project's modules that are loaded."""
    return [name for name in sys.modules if name.partition(".")[0] in ("studio", "tests")]


def test_the_matrix_has_it(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    with in_place_of_ours(tree):
        matrix = importlib.import_module("tests.training.matrix")
        assert matrix.__file__ == str(tree / "tests" / "training" / "matrix.py")
        assert [cell.family for cell in matrix.cells(every=False) if cell.method == "scales"] == ["SD1", "SD2 v", "SDXL"]
        wrong = matrix.main(["--only", "scales-SDXL"])
    torch.set_num_threads(threads)
    _, row = capsys.readouterr().out.splitlines()
    assert not wrong and row.split()[:2] == ["scales", "SDXL"]
    assert all(word in row for word in ("2+1 = 3", "Lora/*.safetensors", "6 modules", "bit-equal")), row
