"""What a browser kept is put back where it is still valid, and replaced with a sentence where it is not."""

import inspect
import json
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from studio.engine import Engine
from studio.settings import Paths
from studio.ui import keeping
from studio.ui.app import build
from studio.ui.browser import browser_id
from studio.ui.keeping import Offers, kept_fields, restore


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> gr.Blocks:
    return build(Engine(Paths(tmp_path_factory.mktemp("page")).prepare()))


def test_every_field_is_kept_or_named_as_not_kept(page: gr.Blocks) -> None:
    fields = [part for part in page.blocks.values() if isinstance(part, keeping.FIELDS)]
    kept, names = kept_fields(page), [str(part.elem_id) for part in fields if part.elem_id]
    assert len(kept) > 300 and len(set(names)) == len(names)
    left_out = {name for name in names if name not in kept and not name.startswith(keeping.STUDIO_WIDE)}
    assert left_out == {*keeping.NOT_KEPT, "room_train", "train_cloned"}
    assert set(keeping.NOT_KEPT) | set(keeping.HIDDEN_BUT_KEPT) <= set(names)
    assert all(part.elem_id or part.visible is False for part in fields)


def test_a_field_of_files_says_which_there_are(page: gr.Blocks) -> None:
    """A free text box in a dropdown takes any word, so a deleted file would be kept for ever."""
    free = [name for name, part in kept_fields(page).items() if isinstance(part, gr.Dropdown) and part.allow_custom_value]
    assert len(free) > 20
    assert [name for name in free if kept_fields(page)[name] not in offers_of(page).valid] == []


def offers_of(page: gr.Blocks) -> Offers:
    """The offers that the page's load event looks at."""
    load = next(event for event in page.fns.values() if event.targets and event.targets[0][1] == "load" and event.fn is not None)
    function = inspect.unwrap(load.fn)
    cells = dict(zip(function.__code__.co_freevars, (cell.cell_contents for cell in function.__closure__), strict=True))
    return cells["self"].offers


FIELDS: dict[str, Any] = {
    "text": gr.Textbox("", label="Text", elem_id="text", render=False),
    "number": gr.Number(3, minimum=1, maximum=9, precision=0, label="Number", elem_id="number", render=False),
    "slider": gr.Slider(0, 1, 0.5, label="Slider", elem_id="slider", render=False),
    "box": gr.Checkbox(False, label="Box", elem_id="box", render=False),
    "radio": gr.Radio([("Eins", "one"), ("Zwei", "two")], value="one", label="Radio", elem_id="radio", render=False),
    "many": gr.CheckboxGroup(["a", "b"], value=[], label="Many", elem_id="many", render=False),
    "file": gr.Dropdown(["old.pt"], value=None, allow_custom_value=True, label="File", elem_id="file", render=False),
    "files": gr.Dropdown([], value=[], multiselect=True, allow_custom_value=True, label="Files", elem_id="files", render=False),
}
GOOD = {"text": "小猫", "number": 7, "slider": 0.25, "box": True, "radio": "two", "many": ["b"], "file": "new.pt", "files": ["new.pt"]}


@pytest.fixture
def form() -> tuple[gr.Blocks, Offers]:
    with gr.Blocks() as blocks:
        for part in FIELDS.values():
            part.render()
    offers = Offers()
    offers.add(FIELDS["file"], lambda name: name == "new.pt", lambda: "new.pt")
    offers.add(FIELDS["files"], lambda name: name == "new.pt")
    return blocks, offers


def put_back(form: tuple[gr.Blocks, Offers], kept: Any, lang: str = "en") -> tuple[dict[str, Any], list[str]]:
    found = restore(*form, json.dumps(kept), lang)
    return {part.elem_id: value for part, value in found.values.items()}, found.notices


def test_what_is_valid_is_put_back_as_it_was(form: tuple[gr.Blocks, Offers]) -> None:
    assert put_back(form, GOOD) == (GOOD, [])
    assert put_back(form, {}) == ({}, [])
    assert put_back(form, {"number": None, "file": None, "unknown field": 1}) == ({"number": None, "file": None}, [])


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("file", "old.pt", "new.pt"),
        ("files", ["old.pt", "new.pt"], ["new.pt"]),
        ("radio", "Zwei", "one"),
        ("many", ["b", "gone"], ["b"]),
        ("number", 10, 3),
        ("number", "seven", 3),
        ("slider", -1, 0.5),
        ("slider", None, 0.5),
        ("box", "yes", False),
        ("text", 3, ""),
        ("text", "x" * 300_000, ""),
    ],
)
def test_what_is_not_valid_is_replaced_and_told(form: tuple[gr.Blocks, Offers], name: str, value: Any, instead: Any) -> None:
    values, notices = put_back(form, {name: value})
    assert values == {name: instead}
    (sentence,) = notices
    assert sentence.startswith(f"{FIELDS[name].label}: ") and "not available any more" in sentence and len(sentence) < 200
    assert "已不存在" in put_back(form, {name: value}, "zh")[1][0]


@pytest.mark.parametrize("text", ["", "null", "[1]", "{", '"x"', "3"])
def test_what_is_no_form_changes_nothing(form: tuple[gr.Blocks, Offers], text: str) -> None:
    found = restore(*form, text, "en")
    assert (found.values, found.notices) == ({}, [])


def test_a_browser_is_known_by_its_cookie_and_else_by_its_session() -> None:
    name = "0123456789abcdef"
    assert browser_id({"studio_browser": name}, "s") == name
    for wrong in ("", "short", "x" * 65, "../../etc/passwd-", "' OR 1=1 --------", f"{name}\n"):
        assert browser_id({"studio_browser": wrong}, "s1") == "session-s1"
    assert (browser_id({}), browser_id({}, None)) == ("", "")


@pytest.mark.parametrize(("lang", "sentence"), [("en", "Checkpoint: gone.ckpt is not available any more; using tiny-world."), ("zh", "模型 Checkpoint：gone.ckpt 已不存在，改用 tiny-world。")])
def test_a_notice_names_the_field_as_the_page_does(page: gr.Blocks, lang: str, sentence: str) -> None:
    assert restore(page, offers_of(page), json.dumps({"checkpoint": "gone.ckpt"}), lang).notices == [sentence]


def test_a_picture_on_the_canvas_is_put_back_only_from_the_pages_own_folders(page: gr.Blocks, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"x")
    found = restore(page, offers_of(page), json.dumps({"img2img_picture": str(secret)}), "en")
    assert list(found.replaced.items()) == [("img2img_picture", "")]


def test_img2img_starts_with_the_background_color_of_the_settings(root: Paths) -> None:
    root.settings.parent.mkdir(parents=True, exist_ok=True)
    root.settings.write_text(json.dumps({"img2img_background_color": "#112233"}), encoding="utf-8")
    blocks = build(Engine(root))
    load = next(event for event in blocks.fns.values() if event.targets and event.targets[0][1] == "load" and event.fn is not None)
    function = inspect.unwrap(load.fn)
    cells = dict(zip(function.__code__.co_freevars, (cell.cell_contents for cell in function.__closure__), strict=True))
    assert cells["self"]._filled()[kept_fields(blocks)["img2img_background_color"]] == "#112233"
