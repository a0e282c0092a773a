"""The data set room by hand: drop, drag a crop, caption, replace in bulk, undo after the server was restarted, the doctor's fix, write."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageFilter
from playwright.sync_api import Browser, Page, expect

from studio import shelves
from studio.projects.project import Project
from tests.browser.clicks import LONG, shot, tab
from tests.browser.served import Studio


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures as an artist has them: wide and tall ones, a copy, a blurred one, a damaged one, captions of some."""
    folder = tmp_path_factory.mktemp("raw")
    for number, picture in enumerate(shelves.images(shelves.sample_pictures())[:8]):
        image = Image.open(picture).convert("RGB")
        wide = Image.new("RGB", (image.width * 2, image.height), image.getpixel((2, 2)))
        wide.paste(image, (image.width if number % 2 else 20, 0))
        wide.resize((wide.width * 2, wide.height * 2)).save(folder / f"{number + 1} 怪物.png")
        (folder / f"{number + 1} 怪物.txt").write_text(f"a red monster, picture {number + 1}, red hat", encoding="utf-8")
    Image.open(folder / "2 怪物.png").save(folder / "copy.jpg", quality=90)
    shutil.copy(folder / "3 怪物.png", folder / "the same file.png")
    Image.open(folder / "1 怪物.png").filter(ImageFilter.GaussianBlur(12)).save(folder / "blurred.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 this is cut off")
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio of its own: it is restarted."""
    studio = Studio(tmp_path_factory.mktemp("room"))
    studio.start()
    yield studio
    studio.end()


@pytest.fixture(scope="module")
def room_page(browser: Browser, served: Studio) -> Iterator[Page]:
    """The page that the tests of the room share."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, locale="en-US")
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(served.url)
    page.wait_for_selector("#engine .chip")
    yield page
    context.close()


@pytest.fixture
def room(room_page: Page) -> Page:
    """The page with the room open."""
    tab(room_page, "Data set")
    room_page.wait_for_selector("#room[data-ready]")
    return room_page


def card(page: Page, name: str) -> "object":
    """The card of a picture."""
    return page.locator(f'.room-card[data-name="{name}"]')


def panel(page: Page, name: str) -> None:
    """Open a part of the room's side."""
    page.locator(".room-tabs").get_by_role("tab", name=name, exact=True).click()


def test_from_a_drop_to_a_written_set(room: Page, served: Studio, raw: Path) -> None:
    page = room
    expect(page.locator(".room-empty")).to_contain_text("Drop pictures here")
    shot(page, "room-0-empty")
    page.locator(".room-files").set_input_files([str(p) for p in sorted(raw.iterdir())])
    expect(page.locator(".room-card")).to_have_count(11, timeout=LONG)
    expect(page.locator(".room-card .crop-box")).to_have_count(10, timeout=LONG)
    folder = next((served.root / "outputs" / "datasets").iterdir())
    project = Project(folder)
    assert {item.name for item in project.items()} >= {"1 怪物.png", "copy.jpg", "blurred.png"}
    assert project.item("3 怪物.png").caption == "a red monster, picture 3, red hat"
    before = {item.name: (folder / item.name).read_bytes() for item in project.items()}
    shot(page, "room-1-grid")

    # a crop is dragged, nudged, and taken back
    card(page, "2 怪物.png").locator(".thumb").click()
    stage = page.locator(".big .frame")
    box = stage.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] / 2, steps=6)
    page.mouse.up()
    expect(card(page, "2 怪物.png").locator(".crop-box.own")).to_be_visible()
    dragged = project.item("2 怪物.png").choices.crop
    assert dragged is not None
    page.locator(".big").press("ArrowRight")
    page.locator(".big").press("ArrowRight")
    expect(page.locator(".room-undo span")).to_have_text("Crop")
    page.wait_for_timeout(900)
    nudged = project.item("2 怪物.png").choices.crop
    assert nudged is not None and nudged.x >= dragged.x
    shot(page, "room-2-crop")

    # a caption is typed and kept
    card(page, "copy.jpg").locator("textarea").fill("a copy of the red monster")
    card(page, "copy.jpg").locator("textarea").blur()
    expect(page.locator(".room-saved")).to_have_text("saved")
    assert project.item("copy.jpg").caption == "a copy of the red monster"

    # captions are written by a model, as one step
    panel(page, "Caption")
    page.locator(".room-panel-caption [name=existing]").select_option("keep")
    shot(page, "room-3-caption")
    page.locator(".run-caption").click()
    expect(card(page, "blurred.png").locator("textarea")).not_to_have_value("", timeout=LONG)

    # red becomes blue everywhere, after a look
    panel(page, "Edit many")
    page.locator(".bulk-fields [name=find]").fill("red")
    page.locator(".bulk-fields [name=replace]").fill("blue")
    expect(page.locator(".run-bulk")).to_contain_text("Change")
    expect(page.locator(".difference").first).to_be_visible()
    shot(page, "room-4-replace")
    page.locator(".run-bulk").click()
    expect(card(page, "3 怪物.png").locator("textarea")).to_have_value("a blue monster, picture 3, blue hat")
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_undo_after_the_server_was_restarted(room: Page, served: Studio) -> None:
    page = room
    expect(card(page, "3 怪物.png").locator("textarea")).to_have_value("a blue monster, picture 3, blue hat")
    page.evaluate("window.before = true")
    served.kill()
    served.start()
    page.wait_for_function("!window.before")  # the page notices another server and loads itself anew
    page.wait_for_selector("#engine .chip")
    tab(page, "Data set")
    page.locator(".room-undo").click()
    expect(card(page, "3 怪物.png").locator("textarea")).to_have_value("a red monster, picture 3, red hat")
    page.locator(".room-redo").click()
    expect(card(page, "3 怪物.png").locator("textarea")).to_have_value("a blue monster, picture 3, blue hat")


def test_the_doctor_mends_and_the_set_is_written(room: Page, served: Studio) -> None:
    page = room
    panel(page, "Check")
    twins = page.locator(".finding[data-check=near_duplicates]").first
    expect(twins).to_be_visible(timeout=LONG)
    shot(page, "room-5-check")
    twins.locator(".fix").click()
    expect(twins).to_have_count(0)
    project = Project(next((served.root / "outputs" / "datasets").iterdir()))
    out = [item.name for item in project.items() if item.choices.left_out]
    assert len({"2 怪物.png", "copy.jpg"} & set(out)) == 1
    expect(page.locator(".room-card.out")).to_have_count(len(out))
    panel(page, "Tags")
    expect(page.locator(".tag-table tr").first).to_contain_text("blue")
    shot(page, "room-6-tags")
    panel(page, "Word & template")
    expect(page.locator(".template-preview .prompt").first).to_be_visible()
    shot(page, "room-7-template")
    panel(page, "Size & write")
    shot(page, "room-8-write")
    page.locator(".run-write").click()
    expect(page.locator(".write-line")).to_contain_text("were written to", timeout=LONG)
    written = sorted((project.folder / "exports").rglob("*.png"))
    assert len(written) == 11 - len(out) - 1  # one is damaged
    assert {Image.open(path).size for path in written} == {(128, 128)}
    page.locator(".use-set").click()
    expect(page.locator("#train_data input, #train_data textarea").first).to_have_value(str(written[0].parent))


def test_somebody_elses_words_are_not_overwritten(room: Page, served: Studio) -> None:
    page = room
    folder = next((served.root / "outputs" / "datasets").iterdir())
    area = card(page, "4 怪物.png").locator("textarea")
    expect(area).to_have_value("a blue monster, picture 4, blue hat")
    area.press("End")
    area.press_sequentially(", mine")
    (folder / "4 怪物.txt").write_text("theirs, from another program", encoding="utf-8")
    area.blur()
    dialog = page.locator(".room-dialog")
    expect(dialog).to_contain_text("theirs, from another program")
    expect(dialog).to_contain_text("a blue monster, picture 4, blue hat, mine")
    shot(page, "room-9-conflict")
    dialog.get_by_role("button", name="Join both").click()
    expect(area).to_have_value("theirs, from another program, a blue monster, picture 4, blue hat, mine")
    assert Project(folder).item("4 怪物.png").caption == "theirs, from another program, a blue monster, picture 4, blue hat, mine"
    area.press("Control+ArrowDown")
    expect(page.locator(".room-card.current")).to_have_attribute("data-name", "5 怪物.png")


def test_a_mask_is_painted_and_taken_back(room: Page, served: Studio) -> None:
    page = room
    folder = next((served.root / "outputs" / "datasets").iterdir())
    card(page, "5 怪物.png").locator(".thumb").click()
    page.locator(".paint-mask").click()
    canvas = page.locator("#room canvas.ink")
    expect(page.locator("#room .mask-canvas.filled")).to_be_visible()
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.5, steps=6)
    page.mouse.up()
    page.get_by_role("button", name="Keep the mask").click()
    expect(card(page, "5 怪物.png").locator(".badges")).to_contain_text("mask")
    mask, picture = Image.open(folder / "5 怪物-masklabel.png"), Image.open(folder / "5 怪物.png")
    assert mask.size == picture.size
    assert mask.getpixel((round(mask.width * 0.3), mask.height // 2)) > 200
    assert mask.getpixel((round(mask.width * 0.8), mask.height // 2)) == 0
    page.locator(".room-undo").click()
    expect(card(page, "5 怪物.png").locator(".badges")).not_to_contain_text("mask")
    assert not (folder / "5 怪物-masklabel.png").exists()


def test_a_chinese_browser_gets_a_chinese_room(browser: Browser, served: Studio) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, locale="zh-CN")
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(served.url)
    page.wait_for_selector("#engine .chip")
    page.get_by_role("tab", name="数据集", exact=False).first.click()
    expect(page.locator(".room-tabs")).to_contain_text("尺寸与写出")
    panel(page, "检查")
    expect(page.locator(".finding").first).to_be_visible()
    assert "pictures" not in page.locator(".room-panel-check .finding p").first.inner_text()
    shot(page, "room-10-chinese")
    context.close()
