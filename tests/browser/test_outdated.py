"""Nothing on the page is older than it looks: a forecast of other settings is marked, a refusal stands at its field and goes when the field is edited; in Chinese as well."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from studio.ui.catalogue import ZH
from tests.browser.clicks import LONG, choose, fill, tab
from tests.browser.served import Studio, with_pictures

CHANGED = "The settings have changed since this forecast"
GOOD = "Nothing speaks against it."


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio of its own with a data set in it, and a folder whose only picture is none."""
    studio = with_pictures(tmp_path_factory.mktemp("outdated"))
    broken = studio.root / "broken"
    broken.mkdir()
    (broken / "01.png").write_text("no picture", encoding="utf-8")
    studio.start()
    yield studio
    studio.end()


def opened(browser: Browser, studio: Studio, locale: str) -> Page:
    page = browser.new_context(viewport={"width": 1440, "height": 1000}, locale=locale).new_page()
    page.set_default_timeout(60_000)
    page.goto(studio.url)
    page.wait_for_selector("#engine .chip")
    return page


def typed(page: Page, field: str, value: str) -> None:
    """Type a value of one's own into a dropdown."""
    box = page.locator(f"#{field} input").first
    box.fill(value)
    box.press("Enter")
    box.blur()


def test_a_forecast_is_of_the_settings_that_are_shown(browser: Browser, served: Studio) -> None:
    page = opened(browser, served, "en-US")
    tab(page, "Train")
    choose(page, "train_method", "LoRA")
    fill(page, "train_name", "ahead")
    forecast, missing = page.locator("#train_forecast"), page.locator("#train_missing")
    page.locator("#train_ahead").click()
    expect(forecast.locator(".figures")).to_contain_text("Steps to take", timeout=LONG)
    expect(forecast.locator(".outdated")).to_have_count(0)

    # other settings: marked; the same again: not
    fill(page, "train_steps", "777")
    expect(forecast).to_contain_text(CHANGED)
    expect(forecast).not_to_contain_text(GOOD)
    fill(page, "train_steps", "1000")
    expect(forecast).not_to_contain_text(CHANGED)

    # a folder that is not there: said at the field, with nothing green below
    typed(page, "train_data", "/nowhere")
    expect(missing).to_contain_text("The folder /nowhere does not exist.")
    expect(page.locator("#train_data .field-error")).to_have_text("The folder /nowhere does not exist.")
    expect(forecast).not_to_contain_text(GOOD)
    expect(page.locator("#train_start")).to_be_disabled()

    # a forecast that can measure nothing shows why, and no zeros
    typed(page, "train_data", str(served.root / "broken"))
    expect(page.locator("#train_data .field-error")).to_have_count(0)
    page.locator("#train_ahead").click()
    expect(forecast.locator(".note.bad")).to_contain_text("none of the 1 files", timeout=LONG)
    expect(forecast.locator(".figures")).to_have_count(0)
    expect(forecast).not_to_contain_text(GOOD)
    page.context.close()


def english(text: str) -> list[str]:
    """Runs of English words in a text that are no values, names or terms."""
    plain = re.sub(r"'[^']*'|\([^()]*\)|[\w/.:-]*[/._-][\w/.:-]*", "", text)
    return re.findall(r"[A-Za-z]{3,}(?: [A-Za-z]{2,})+", plain)


def told(page: Page, place: str, part: str) -> None:
    """A place of the page says this, and nothing in English."""
    expect(page.locator(place)).to_contain_text(part, timeout=LONG)
    assert english(page.locator(place).inner_text()) == []


def test_common_mistakes_are_told_in_chinese_at_their_fields(browser: Browser, served: Studio) -> None:
    page = opened(browser, served, "zh-CN")
    tab(page, ZH["Embedding"])
    fill(page, "embedding_name", "a/b")
    page.locator("#embedding_create").click()
    told(page, "#embedding_status", "名称不能含有 '/'")
    told(page, "#embedding_name .field-error", "名称不能含有 '/'")
    fill(page, "embedding_name", "ab")
    expect(page.locator("#embedding_name .field-error")).to_have_count(0)
    expect(page.locator("#embedding_status .note.bad")).to_be_hidden()

    tab(page, ZH["Preprocess"])
    fill(page, "preprocess_source", "/nowhere")
    page.locator("#preprocess_start").click()
    told(page, "#preprocess_status", "'/nowhere' 不存在")
    told(page, "#preprocess_source .field-error", "不存在")

    tab(page, ZH["Train"])
    choose(page, "train_method", "LoRA")
    fill(page, "train_name", "zh")
    fill(page, "train_learn_rate", "快")
    expect(page.locator("#train_start")).to_be_enabled()
    page.locator("#train_start").click()
    told(page, "#train_missing", "请写例如 0.005:100")
    told(page, "#train_learn_rate .field-error", "'快'")
    choose(page, "train_template", "subject")  # picked from a list, which is no event of an input
    expect(page.locator("#train_learn_rate .field-error")).to_have_count(0)
    expect(page.locator("#train_missing [data-refusal]")).to_be_hidden()
    page.locator("#train_start").click()
    told(page, "#train_learn_rate .field-error", "'快'")
    fill(page, "train_learn_rate", "1e-4")
    expect(page.locator("#train_learn_rate .field-error")).to_have_count(0)
    typed(page, "train_data", "/nowhere")
    told(page, "#train_missing", "文件夹 /nowhere 不存在。")

    tab(page, "txt2img")
    page.locator("#txt2img_zip").click()
    told(page, ".toast-body", "还没有可打包的图片")
    told(page, ".toast-title", "错误")
    page.locator(".toast-close").first.click()
    typed(page, "checkpoint", "gone.safetensors")
    page.locator("#txt2img_generate").click()
    told(page, "#txt2img_status .note.bad", "没有 'gone.safetensors'")
    told(page, "#checkpoint .field-error", "没有 'gone.safetensors'")
    typed(page, "checkpoint", "tiny-world")

    tab(page, ZH["Data set"])
    page.get_by_role("button", name=ZH["Open a folder…"]).click()
    page.locator(".room-dialog input").fill("/nowhere")
    page.locator(".room-dialog input").press("Enter")
    told(page, ".room-dialog .note.bad", "'/nowhere' 不是文件夹")
    page.context.close()
