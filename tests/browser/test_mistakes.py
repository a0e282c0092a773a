"""What a person can do wrong on the page, and what goes wrong around it: a sentence each, and nothing lost."""

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from studio.shelves import sample_pictures
from tests.browser.clicks import LONG, fill, newest, tab
from tests.browser.served import Studio


@pytest.fixture
def page(shared_page: Page) -> Page:
    """The page that the tests of this file share."""
    return shared_page


def data_set(studio: Studio, name: str) -> Path:
    """A prepared data set, put there by hand."""
    folder = studio.root / "outputs" / "datasets" / name
    folder.mkdir(parents=True, exist_ok=True)
    for picture in sorted(sample_pictures().glob("*.png"))[:3]:
        shutil.copy(picture, folder)
    return folder


def make_embedding(page: Page, name: str) -> None:
    tab(page, "Embedding")
    fill(page, "embedding_name", name)
    fill(page, "embedding_initialization_text", "monster")
    page.locator("#embedding_create").click()


def prepare_training(page: Page, studio: Studio, name: str) -> None:
    """Create an embedding and open the Train tab with it, ready to start."""
    data_set(studio, "three")
    make_embedding(page, name)
    expect(page.locator("#embedding_status")).to_contain_text(f"{name} is created", timeout=LONG)
    page.locator("#embedding_train").click()
    expect(page.locator("#train_start")).to_be_enabled()


def test_a_name_that_is_taken_or_cannot_be_a_file_is_refused_in_words(page: Page) -> None:
    make_embedding(page, "a/b")
    expect(page.locator("#embedding_status")).to_contain_text("a name cannot hold '/'")
    make_embedding(page, "twice")
    expect(page.locator("#embedding_status")).to_contain_text("twice is created", timeout=LONG)
    make_embedding(page, "Twice")
    expect(page.locator("#embedding_status")).to_contain_text("prompts could not tell 'Twice' from 'twice.pt'", timeout=LONG)
    make_embedding(page, "小猫")
    expect(page.locator("#embedding_status")).to_contain_text("小猫 is created", timeout=LONG)


def test_files_that_are_no_pictures_are_named_and_the_rest_goes_on(page: Page, studio: Studio, tmp_path: Path) -> None:
    good = shutil.copy(sample_pictures() / "01.png", tmp_path / "好图.png")
    cut = tmp_path / "cut.png"
    cut.write_bytes((sample_pictures() / "02.png").read_bytes()[:900])
    empty, text = tmp_path / "empty.jpg", tmp_path / "text.png"
    empty.write_bytes(b"")
    text.write_text("I am no picture", encoding="utf-8")
    tab(page, "Preprocess")
    page.locator("#preprocess_drop input[type=file]").set_input_files([str(p) for p in (good, cut, empty, text)])
    expect(page.locator("#preprocess_took_in")).to_contain_text("4 files are taken in")
    fill(page, "preprocess_destination", "mixed")
    page.locator("#preprocess_start").click()
    status = page.locator("#preprocess_status")
    expect(status).to_contain_text("1 pictures are ready", timeout=LONG)
    for name in ("cut.png", "empty.jpg", "text.png"):
        expect(status).to_contain_text(name)
    made = list((studio.root / "outputs" / "datasets" / "mixed").glob("*.png"))
    assert [re.sub(r"^\d+-\d-", "", p.stem) for p in made] == ["好图"]


def test_a_source_that_is_not_there_is_said(page: Page) -> None:
    tab(page, "Preprocess")
    fill(page, "preprocess_source", "/nowhere/at all")
    page.locator("#preprocess_start").click()
    expect(page.locator("#preprocess_status")).to_contain_text("'/nowhere/at all' does not exist")


def test_a_learning_rate_that_is_no_number_is_refused_before_anything_starts(page: Page, studio: Studio) -> None:
    prepare_training(page, studio, "rated")
    fill(page, "train_learn_rate", "abc")
    page.locator("#train_start").click()
    expect(page.locator("#train_missing")).to_contain_text("'abc' is not")
    fill(page, "train_learn_rate", "0.005")


def test_a_refusal_outlasts_an_edit_that_the_server_hears_of_only_afterwards(page: Page, studio: Studio) -> None:
    prepare_training(page, studio, "late")
    edits = page.evaluate("""() => {
        const { components, dependencies } = window.gradio_config, rate = components.find((one) => one.props.elem_id === "train_learn_rate").id;
        return dependencies.filter((event) => event.targets.some(([part, kind]) => part === rate && kind === "change")).map((event) => event.id);
    }""")
    held: list[Route] = []
    page.route("**/queue/join*", lambda route: held.append(route) if route.request.post_data_json["fn_index"] in edits else route.continue_())
    fill(page, "train_learn_rate", "xyz")
    page.locator("#train_start").click()
    expect(page.locator("#train_missing")).to_contain_text("'xyz' is not")
    while not held:  # what was chosen before is still on its way
        page.wait_for_timeout(50)
    for route in held:
        with page.expect_response("**/queue/join*"):
            route.continue_()
    page.unroute("**/queue/join*")
    page.wait_for_timeout(2000)
    page.evaluate("window.studio.refresh()")
    page.wait_for_timeout(2000)
    expect(page.locator("#train_missing")).to_contain_text("'xyz' is not")
    fill(page, "train_learn_rate", "0.005")


def test_a_prompt_of_ten_thousand_characters_is_painted(page: Page) -> None:
    tab(page, "txt2img")
    fill(page, "txt2img_prompt", "a cat, " * 1429)
    fill(page, "txt2img_steps", "2")
    page.locator("#txt2img_generate").click()
    expect(page.locator("#txt2img_status")).to_contain_text("Done in", timeout=LONG)


def test_a_size_that_no_model_can_paint_is_refused(page: Page) -> None:
    tab(page, "txt2img")
    fill(page, "txt2img_prompt", "a cat")
    box = page.locator("#txt2img_width input[type=number]")
    box.fill("8")
    box.press("Tab")
    page.locator("#txt2img_generate").click()
    expect(page.locator("#txt2img_status")).to_contain_text("Width must be a multiple of 8 and at least 64, not 8")


def test_the_page_comes_back_by_itself_when_its_server_was_killed_and_the_run_goes_on(page: Page, studio: Studio) -> None:
    data_set(studio, "three")
    make_embedding(page, "outlives")
    expect(page.locator("#embedding_status")).to_contain_text("outlives is created", timeout=LONG)
    page.locator("#embedding_train").click()
    expect(page.locator("#train_start")).to_be_enabled()
    for field, value in (("train_steps", "4000"), ("train_preview_every", "0"), ("train_save_every", "0"), ("train_learn_rate", "0.01")):
        fill(page, field, value)
    page.locator("#train_start").click()
    expect(page.locator("#train_screen .at-state")).to_contain_text("of 4000", timeout=LONG)
    job = newest(studio, "train")
    page.evaluate("window.before = true")
    studio.kill()
    expect(page.locator("#lost")).to_be_visible()
    studio.start()
    page.wait_for_function("!window.before", timeout=LONG)  # the page loads itself anew, and opens the tab that was open
    page.wait_for_selector("#engine .chip", timeout=LONG)
    tab(page, "Train")
    expect(page.locator("#train_screen .at-state")).to_contain_text("of 4000", timeout=LONG)
    page.locator("#train_screen .ask-stop").click()
    expect(page.locator("#train_screen .at-state")).to_contain_text("and saved: write outlives in a prompt", timeout=LONG)
    ended = newest(studio, "train")
    assert (ended.id, ended.state, ended.attempts) == (job.id, "stopped", 1)
