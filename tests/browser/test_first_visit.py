"""A first visit: the checklist, the sample that fills every form, the language, the dark switch, the hotkeys."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.clicks import LONG, shot, tab
from tests.browser.served import Studio


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio in which nothing was done yet."""
    served = Studio(tmp_path_factory.mktemp("untouched"))
    served.start()
    yield served
    served.end()


Open = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, untouched: Studio) -> Iterator[Open]:
    """Opens the page in a language and a width; closed again after the test."""
    contexts = []

    def open_(locale: str = "en-US", width: int = 1440) -> Page:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, locale=locale))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.goto(untouched.url)
        page.wait_for_selector("#txt2img_prompt textarea")
        return page

    yield open_
    for context in contexts:
        context.close()


def test_the_sample_fills_every_form(opened: Open) -> None:
    page = opened()
    expect(page.locator("#checklist_steps li")).to_have_count(5)
    page.locator("#try_sample").click()
    expect(page.locator("#preprocess_source textarea, #preprocess_source input").first).to_have_value(re.compile("sample$"))
    expect(page.locator("#preprocess_crops img")).to_have_count(12)
    tab(page, "Embedding")
    expect(page.locator("#embedding_name textarea, #embedding_name input").first).to_have_value("mo-teal")
    tab(page, "Train")
    expect(page.locator("#train_learn_rate textarea, #train_learn_rate input").first).to_have_value("0.01")
    expect(page.locator("#train_start")).to_be_disabled()
    expect(page.locator("#train_missing")).to_contain_text("Create an embedding first.")


def test_the_page_says_that_the_queue_can_not_be_written_and_recovers_by_itself(opened: Open, untouched: Studio) -> None:
    page = opened()
    expect(page.locator("#engine .chip")).to_contain_text("ready")
    expect(page.locator("#engine_notice")).to_have_count(0)
    with closing(sqlite3.connect(untouched.root / "outputs" / "studio.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        expect(page.locator("#engine .chip")).to_contain_text("The queue's database can't be written")
        expect(page.locator("#engine_notice")).to_contain_text("Jobs wait and continue on their own")
        expect(page.locator("#restart_worker")).to_have_count(0)
        holder.execute("ROLLBACK")
    expect(page.locator("#engine .chip")).to_contain_text("ready")
    expect(page.locator("#engine_notice")).not_to_be_visible()


def test_a_chinese_browser_gets_a_chinese_page(opened: Open) -> None:
    page = opened("zh-CN")
    expect(page.get_by_role("tab", name="训练 Train")).to_be_visible()
    expect(page.locator("#checklist_steps")).to_contain_text("放入同一主题的 10 到 20 张图片。")
    page.get_by_role("tab", name="训练 Train").click()
    expect(page.locator("#train_missing")).to_contain_text("请先创建嵌入。")
    expect(page.locator("#train_start")).to_contain_text("开始训练")
    shot(page, "train-zh")


def test_the_dark_switch_is_remembered(opened: Open) -> None:
    page = opened()
    expect(page.locator("body.dark")).to_have_count(0)
    page.locator("#theme_switch").click()
    expect(page.locator("body.dark")).to_have_count(1)
    page.reload()
    expect(page.locator("body.dark")).to_have_count(1)
    page.wait_for_selector("#txt2img_prompt textarea")
    shot(page, "dark")


def test_attention_and_generate_have_their_keys(opened: Open) -> None:
    page = opened()
    prompt = page.locator("#txt2img_prompt textarea")
    prompt.fill("a red cat")
    prompt.press("Control+ArrowUp")
    expect(prompt).to_have_value("a red (cat:1.1)")
    prompt.press("Control+ArrowDown")
    expect(prompt).to_have_value("a red cat")
    page.locator("#txt2img_steps input[type=number]").fill("2")
    prompt.press("Control+Enter")
    expect(page.locator("#txt2img_status")).to_contain_text("Done in", timeout=LONG)


def test_a_narrow_screen_shows_the_run_without_scrolling_sideways(opened: Open) -> None:
    page = opened(width=390)
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    shot(page, "narrow")
    assert wide <= 2


def test_markup_that_gets_into_the_page_runs_nothing(opened: Open) -> None:
    page = opened()
    page.evaluate("addEventListener('securitypolicyviolation', (event) => (window.blocked = event.effectiveDirective))")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=nowhere onerror=\"window.ran = 1\">')")
    page.wait_for_function("window.blocked")
    assert page.evaluate("[window.blocked, window.ran]") == ["script-src-attr", None]


def test_markup_in_a_data_set_is_saved_and_not_shown(opened: Open, untouched: Studio) -> None:
    page = opened()
    for name, text in (("evil.html", "<script>localStorage.evil = 1</script>"), ("evil.svg", "<svg xmlns='http://www.w3.org/2000/svg'><script>localStorage.evil = 1</script></svg>")):
        path = untouched.root / "outputs" / "datasets" / name
        path.write_text(text, encoding="utf-8")
        with page.expect_download() as saved:
            page.evaluate("(address) => { location = address }", f"{untouched.url}gradio_api/file={path}")
        assert saved.value.suggested_filename == name
    assert page.evaluate("localStorage.evil") is None
