"""The floors: a file imports from lower floors only, and a third party is met on the floor where it starts or above."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "studio").rglob("*.py"))

ROOMS: dict[str, tuple[int, str]] = {
    "studio": (1, "words"),
    "studio.errors": (1, "words"),
    "studio.settings": (1, "words"),
    "studio.config": (1, "words"),
    "studio.jobs": (1, "words"),
    "studio.database": (1, "words"),
    "studio.job_records": (1, "words"),
    "studio.retention": (1, "words"),
    "studio.requests": (1, "words"),
    "studio.shelves": (1, "words"),
    "studio.embedding_shelf": (1, "words"),
    "studio.trash": (1, "words"),
    "studio.networks": (1, "words"),
    "studio.peeking": (1, "words"),
    "studio.preferences": (1, "words"),
    "studio.tokens": (1, "words"),
    "studio.prompts": (1, "words"),
    "studio.projects": (1, "words"),
    "studio.files": (1, "words"),
    "studio.safe_regex": (1, "words"),
    "studio.cancellation": (1, "words"),
    "studio.default_checkpoint": (1, "words"),
    "studio.runs": (1, "words"),
    "studio.webhook": (1, "words"),
    "studio.pasting": (1, "words"),
    "studio.presets": (1, "words"),
    "studio.wording": (1, "words"),
    "studio.formats": (2, "formats"),
    "studio.diffusion": (3, "diffusion"),
    "studio.dataset": (3, "dataset"),
    "studio.training": (4, "training"),
    "studio.services": (5, "services"),
    "studio.engine": (6, "engine"),
    "studio.worker": (6, "worker"),
    "studio.launched": (6, "worker"),
    "studio.worker_lane": (6, "worker"),
    "studio.worker_keeper": (6, "engine"),
    "studio.tinyworld": (6, "tinyworld"),
    "studio.cli": (7, "cli"),
    "studio.__main__": (7, "cli"),
    "studio.api": (7, "api"),
    "studio.ui": (7, "ui"),
}
"""Module or package: its floor and its room."""
PASSAGES = {
    ("studio.cli.serving", "studio.api.app"): "`studio serve` starts the server",
    ("studio.cli.serving", "studio.api.auth"): "and says who may use it",
    ("studio.cli.serving", "studio.api.hosts"): "and under which names",
    ("studio.api.app", "studio.ui.app"): "the server mounts the page",
    ("studio.api.images", "studio.formats.opening"): "images are opened in one place, which knows no torch",
    ("studio.api.thumbnails", "studio.formats.opening"): "the same",
    ("studio.api.room_pictures", "studio.formats.opening"): "the same",
    ("studio.engine", "studio.formats.carriers"): "what is written in a picture is read without torch",
    ("studio.engine", "studio.formats.hashes"): "remembered hashes are read without torch",
}
"""The only ways between two rooms of one floor, or from the engine to files, with the reason."""
STARTS = {
    **dict.fromkeys(("torch", "safetensors", "PIL", "numpy"), 2),
    **dict.fromkeys(("diffusers", "transformers", "open_clip", "peft", "cv2", "torchvision", "scipy", "spandrel", "torchsde", "timm"), 3),
    "accelerate": 4,
    **dict.fromkeys(("fastapi", "starlette", "uvicorn", "gradio"), 7),
}
"""Third party: the first floor that may import it."""
HEAVY = frozenset({"torch", "torchvision", "diffusers", "transformers", "open_clip", "peft", "accelerate", "safetensors", "cv2", "timm"})
"""What the web process never imports."""
LIGHT_ROOMS = frozenset({"words", "engine", "cli", "api", "ui"})
"""Rooms that run in the web process."""


def module_of(path: Path) -> str:
    """The dotted name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> tuple[int, str]:
    """Floor and room of a module; the longest entry of ROOMS that holds it."""
    while module:
        if module in ROOMS and (module != "studio" or "." not in module):
            return ROOMS[module]
        parent = module.rpartition(".")[0]
        if parent == "studio":
            break
        module = parent
    raise KeyError(module)


@functools.cache
def import_nodes(source: str) -> tuple[ast.AST, ...]:
    """The import statements of a source, parsed once."""
    return tuple(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom))


def imports(module: str, source: str, package: bool = False) -> Iterator[str]:
    """Every module a source names in an import, deferred ones too, relative ones made absolute."""
    for node in import_nodes(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")
            base = base[: len(base) - node.level + package] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            inner = [f"{target}.{alias.name}" for alias in node.names]
            yield from (name if is_module(name) else target for name in inner)


@functools.cache
def is_module(name: str) -> bool:
    """Whether a dotted name is a file or a package of the studio."""
    path = ROOT.joinpath(*name.split("."))
    return name.startswith("studio.") and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())


def breaches(module: str, source: str, package: bool = False) -> list[str]:
    """Sentences about the imports of a source that the floors forbid."""
    floor, room = room_of(module)
    found = []
    for target in imports(module, source, package):
        top = target.partition(".")[0]
        if top != "studio":
            if floor < STARTS.get(top, 1):
                found.append(f"{module} (floor {floor}) imports {top}, which starts on floor {STARTS[top]}")
            if room in LIGHT_ROOMS and top in HEAVY:
                found.append(f"{module} runs in the web process and imports {top}")
            continue
        there, other = room_of(target)
        if other == room or (module, target) in PASSAGES:
            continue
        if there >= floor:
            found.append(f"{module} (floor {floor}) imports {target} (floor {there})")
        elif floor == 7 and there != 1 and other != "engine":
            found.append(f"{module} is a face and imports {target}; a face knows the engine, the requests and floor 1")
        elif room == "engine" and there > 1:
            found.append(f"{module} is in the web process and imports {target}, which needs torch")
    return found


def test_a_file_imports_from_lower_floors_only() -> None:
    assert len(SOURCES) > 300
    assert [found for path in SOURCES for found in breaches(module_of(path), path.read_text(encoding="utf-8"), path.name == "__init__.py")] == []


def test_every_passage_is_used() -> None:
    used = {(module_of(path), target) for path in SOURCES for target in imports(module_of(path), path.read_text(encoding="utf-8"))}
    assert set(PASSAGES) - used == set()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("studio.jobs", "import torch"),
        ("studio.jobs", "def late():\n    from studio.engine import Engine"),
        ("studio.formats.embedding", "from studio.diffusion.model import Model"),
        ("studio.formats.embedding", "from ..diffusion import model"),
        ("studio.formats.embedding", "from diffusers import UNet2DConditionModel"),
        ("studio.dataset.crop", "import studio.diffusion.model"),
        ("studio.diffusion.sampling", "from studio.dataset.folder import read_folder"),
        ("studio.training.loop", "import gradio"),
        ("studio.engine", "import studio.services.training"),
        ("studio.engine", "import studio.worker"),
        ("studio.engine", "import torch.nn"),
        ("studio.ui.app", "from studio.formats.embedding import read_embedding"),
        ("studio.ui.app", "from studio.worker import main"),
        ("studio.ui.app", "from studio.api.app import create_app"),
        ("studio.api.app", "import transformers"),
    ],
)
def test_a_breach_is_seen(module: str, source: str) -> None:
    assert len(breaches(module, source)) >= 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("studio.ui.tabs.train", "from studio.engine import Engine\nfrom studio.requests import TrainRequest\nimport gradio\nfrom PIL import Image"),
        ("studio.services.training", "from studio.training.loop import train\nfrom studio.diffusion import model\nimport torch"),
        ("studio.diffusion.model", "from .families import Family\nfrom ..formats import checkpoint\nimport diffusers, torch"),
        ("studio.requests.train", "from studio.config import Config\nimport pydantic"),
    ],
)
def test_a_lawful_import_is_not_a_breach(module: str, source: str) -> None:
    assert breaches(module, source) == []


def test_a_room_without_a_floor_is_refused() -> None:
    with pytest.raises(KeyError):
        room_of("studio.utils")
