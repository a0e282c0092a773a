"""The page in Chinese: what it sends is what the English page sends, every tab opens without an error, and a training of every method runs to its end."""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from studio.jobs import State
from studio.requests.train import CONFIGS
from studio.ui.catalogue import ZH
from studio.ui.catalogue_choices import CHOICES
from tests.browser.clicks import LONG, choose, fill, newest, shot
from tests.browser.served import Studio, with_pictures

TITLES = {cls.method: cls.title for cls in CONFIGS}
PRESSED = {"txt2img": "txt2img_generate", "img2img": "img2img_generate", "preprocess": "preprocess_start", "embedding": "embedding_create", "settings": "settings_apply"}
"""A button of each tab whose press sends all controls of the tab."""
SELECTS = (
    ("dataset", "", ".room-order"),
    ("dataset", "caption", ".room-panel-caption select[name=scope]"),
    ("dataset", "caption", ".room-panel-caption select[name=tag_sort]"),
    ("dataset", "bulk", ".room-panel-bulk select[name=kind]"),
    ("dataset", "masks", ".room-panel-masks select[name=segmenter]"),
    ("dataset", "template", ".room-panel-template select"),
    ("dataset", "write", ".room-panel-write select[name=background]"),
    ("runs", "", ".runs-by-state"),
    ("runs", "", ".runs-by-verdict"),
    ("txt2img", "", ".cards-room select"),
)
"""Tab, panel of the data set, and a select that a script draws there."""
TABS = ("txt2img", "img2img", "dataset", "preprocess", "embedding", "train", "runs", "pnginfo", "tools", "settings")
"""Tabs in the order of the page."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio of its own with a data set in it."""
    studio = with_pictures(tmp_path_factory.mktemp("chinese"))
    studio.start()
    yield studio
    studio.end()


def opened(browser: Browser, studio: Studio, locale: str) -> Page:
    page = browser.new_context(viewport={"width": 1440, "height": 1000}, locale=locale).new_page()
    page.set_default_timeout(60_000)
    page.goto(studio.url)
    page.wait_for_selector("#engine .chip")
    return page


def show(page: Page, tab: str) -> None:
    """Open a tab by its place, which is the same in every language."""
    page.locator("#tabs > .tab-wrapper button[role=tab]").nth(TABS.index(tab)).click()


def sent(page: Page) -> dict[str, list[Any]]:
    """What the page would send for each button; nothing is sent."""
    bodies: list[list[Any]] = []

    def keep(route: Route) -> None:
        body = json.loads(route.request.post_data or "{}")
        if body.get("trigger_id") == pressed:  # other events of the page are none of the button's
            bodies.append(body["data"])
        route.fulfill(status=503, content_type="application/json", body='{"detail": "not sent"}')

    found: dict[str, list[Any]] = {}
    pressed = 0
    for tab, button in PRESSED.items():
        show(page, tab)
        page.locator(f"#{button}").wait_for()
        pressed = page.evaluate("(id) => window.gradio_config.components.find((one) => one.props.elem_id === id).id", button)
        page.route("**/queue/join*", keep)
        bodies.clear()
        page.locator(f"#{button}").click()
        while not any(len(body) > 4 for body in bodies):
            page.wait_for_timeout(100)
        found[tab] = max(bodies, key=len)
        page.unroute("**/queue/join*")
    return found


def scripted(page: Page) -> dict[str, list[str]]:
    """The values of the selects that the page's scripts draw, by what tells them apart."""
    found: dict[str, list[str]] = {}
    for tab, panel, select in SELECTS:
        show(page, tab)
        if panel:
            page.locator(f".room-tabs button[data-panel={panel}]").click()
        part = page.locator(select).first
        part.wait_for(state="attached")
        found[select] = part.evaluate("(select) => [...select.options].map((option) => option.value)")
    return found


@pytest.mark.parametrize("locale", ["zh", "zh-Hans-CN", "zh-HK", "zh-SG", "zh-TW"])
def test_every_chinese_browser_gets_the_whole_page_in_chinese(browser: Browser, served: Studio, locale: str) -> None:
    page = opened(browser, served, locale)
    expect(page.locator("#txt2img_generate")).to_have_text("生成")
    expect(page.locator("#tabs > .tab-wrapper button[role=tab]").nth(2)).to_have_text("数据集")
    expect(page.locator("#engine .chip")).not_to_contain_text(" of ")
    page.context.close()


def test_a_data_set_that_is_deleted_while_it_is_open_is_told_in_chinese(browser: Browser, served: Studio) -> None:
    sets = served.root / "outputs" / "datasets"
    shutil.copytree(sets / "monster", sets / "alpha")
    page = opened(browser, served, "zh-CN")
    show(page, "dataset")
    page.locator(".room-set").select_option("alpha")
    expect(page.locator(".room-set")).to_have_value("alpha")
    expect(page.locator(".room-card")).not_to_have_count(0)
    shutil.rmtree(sets / "alpha")
    expect(page.locator(".room-say")).to_contain_text("可能已被移动或删除；请换一个。")
    expect(page.locator(".room-set")).to_have_value("monster")
    expect(page.locator(".room-card")).not_to_have_count(0)
    page.context.close()


def test_on_a_telephone_the_hint_of_a_slider_has_a_line_of_its_own(browser: Browser, served: Studio) -> None:
    page = opened(browser, served, "zh-CN")
    page.set_viewport_size({"width": 390, "height": 844})
    hint, number = (page.locator(f"#txt2img_width {part}").bounding_box() for part in (".info-text", "input[type=number]"))
    assert hint is not None and number is not None
    assert hint["y"] + hint["height"] <= number["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.context.close()


def test_the_chinese_page_sends_what_the_english_page_sends(browser: Browser, served: Studio) -> None:
    pages = [opened(browser, served, locale) for locale in ("en-US", "zh-CN")]
    english, chinese = (sent(page) for page in pages)
    for name, values in english.items():
        assert len(values) > 4, name
        assert chinese[name] == values, name
    lists, drawn = (scripted(page) for page in pages)
    assert all(len(values) > 1 for values in lists.values())
    assert drawn == lists
    for page in pages:
        page.context.close()


def begin(page: Page, method: str, values: dict[str, str]) -> None:
    """Choose a method and start the shortest training of it."""
    choose(page, "train_method", ZH[TITLES[method]])
    for field, value in {"steps": "2", "preview_every": "0", "save_every": "0", "probe_every": "0", **values}.items():
        fill(page, f"train_{field}", value)
    if method == "dreambooth":
        page.locator("#train_prior").get_by_text(CHOICES["none"], exact=True).click()
    expect(page.locator("#train_start")).to_be_enabled()
    page.locator("#train_start").click()


def test_every_tab_opens_and_every_method_trains_in_chinese(browser: Browser, served: Studio) -> None:
    page = opened(browser, served, "zh-CN")
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    for tab in TABS:
        show(page, tab)
        expect(page.locator(".toast-body")).to_have_count(0)
        shot(page, f"zh-{tab}")
    show(page, "embedding")
    fill(page, "embedding_name", "teal")
    fill(page, "embedding_initialization_text", "monster")
    page.locator("#embedding_create").click()
    expect(page.locator("#embedding_status .note.good")).to_contain_text("teal", timeout=LONG)
    show(page, "train")
    for title in ("More", "Measuring and stopping"):
        page.locator("#train_place").locator("xpath=ancestor::*[@role='tabpanel'][1]").locator("button.label-wrap", has_text=ZH[title]).first.click()
    for method in TITLES:
        word = {} if method == "textual_inversion" else {"name": f"zh-{method.replace('_', '-')}"}
        begin(page, method, word)
        expect(page.locator("#train_screen .at-state .note.good")).to_contain_text(word.get("name", "teal"), timeout=LONG)
        job = newest(served, "train")
        assert (job.request["method"], job.state) == (method, State.DONE), job.error
        expect(page.locator(".toast-body")).to_have_count(0)
    shot(page, "zh-trained")
    page.context.close()
    logs = "".join(path.read_text(encoding="utf-8") for path in (served.root / "serve.log", served.root / "outputs" / "logs" / "worker.log"))
    assert "Traceback" not in logs
    assert problems == []
