"""The whole job, clicked in Chromium: drop pictures, crop, caption, create, train, reload, stop, paint, inpaint."""

import re
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from studio.shelves import sample_pictures
from tests.browser.clicks import LONG, brush, choose, drag, fill, generated, newest, shot, tab
from tests.browser.served import Studio

NAME = "mo-teal"


def prepare(page: Page, studio: Studio) -> None:
    """Drop twelve pictures, cut and caption them."""
    tab(page, "Preprocess")
    pictures = sorted(sample_pictures().glob("*.png"))
    page.locator("#preprocess_drop input[type=file]").set_input_files([str(p) for p in pictures])
    expect(page.locator("#preprocess_took_in")).to_contain_text("12 files are taken in")
    fill(page, "preprocess_destination", "monster")
    page.locator("#preprocess_captioners").get_by_label("BLIP").check()
    page.locator("#preprocess_start").click()
    expect(page.locator("#preprocess_status")).to_contain_text("12 pictures are ready", timeout=LONG)
    expect(page.locator("#preprocess_gallery img")).to_have_count(12)
    expect(page.locator("#preprocess_crops img")).to_have_count(12)
    shot(page, "preprocess")
    made = sorted((studio.root / "outputs/datasets/monster").glob("*.png"))
    assert [Image.open(p).size for p in made] == [(128, 128)] * 12
    assert all("monster" in p.with_suffix(".txt").read_text(encoding="utf-8") for p in made)


def create(page: Page, studio: Studio) -> None:
    """Create the embedding."""
    tab(page, "Embedding")
    fill(page, "embedding_name", NAME)
    fill(page, "embedding_initialization_text", "monster")
    fill(page, "embedding_vectors", "4")
    page.locator("#embedding_create").click()
    expect(page.locator("#embedding_status")).to_contain_text(f"{NAME} is created with 4 vectors", timeout=LONG)
    expect(page.locator("#embedding_table")).to_contain_text(NAME)
    shot(page, "embedding")
    assert (studio.root / "embeddings" / f"{NAME}.pt").is_file()


def start(page: Page) -> None:
    """Fill the Train tab and start."""
    page.locator("#embedding_train").click()
    expect(page.locator("#train_start")).to_be_enabled()
    fill(page, "train_learn_rate", "0.01")
    choose(page, "train_template", "subject")
    fill(page, "train_steps", "5000")
    fill(page, "train_batch_size", "2")
    fill(page, "train_preview_every", "10")
    fill(page, "train_save_every", "0")
    fill(page, "train_preview_prompt", "a photo of [name] on the beach")
    page.locator("#train_start").click()
    expect(page.locator("#train_screen .at-state")).to_contain_text("of 5000", timeout=LONG)


def watch(page: Page, studio: Studio) -> None:
    """See the curve and previews that differ, reload, and see the same run."""
    previews = page.locator("#train_screen .at-previews figure img")
    expect(previews.nth(4)).to_be_visible(timeout=LONG)
    expect(page.locator("#train_screen polyline.raw")).to_have_count(1)
    expect(page.locator("#train_screen polyline.probe.train")).to_have_count(1, timeout=LONG)
    expect(page.locator("#train_screen .verdict")).to_be_visible()
    measured = page.locator("#train_screen circle.probe.train").count()
    job = newest(studio, "train")
    page.reload()
    tab(page, "Train")
    expect(page.locator("#train_screen .at-state")).to_contain_text("of 5000")
    expect(previews.nth(4)).to_be_visible()
    assert newest(studio, "train").id == job.id
    expect(page.locator("#train_template input")).to_have_value("subject")
    expect(page.locator("#train_screen polyline.raw")).to_have_count(1)
    assert page.locator("#train_screen circle.probe.train").count() >= measured
    shot(page, "train-running")


def stop(page: Page, studio: Studio) -> None:
    """Stop, and find everything kept."""
    page.locator("#train_screen .ask-stop").click()
    expect(page.locator("#train_screen .at-state")).to_contain_text(f"and saved: write {NAME} in a prompt", timeout=LONG)
    shot(page, "train")
    job = newest(studio, "train")
    assert job.state == "stopped"
    samples = sorted((Path(job.result["run"]) / "samples").glob("*.png"))
    assert samples[0].stem == "000000-0"
    first, last = (np.asarray(Image.open(p).convert("RGB"), dtype=int) for p in (samples[0], samples[-1]))
    assert np.abs(first - last).mean() > 1


def paint(page: Page, studio: Studio) -> Path:
    """Use the name in txt2img, picked beside the prompt."""
    tab(page, "txt2img")
    fill(page, "txt2img_prompt", "a photo of")
    page.locator("#txt2img_embeddings input").click()
    page.get_by_role("option", name=NAME).click()
    expect(page.locator("#txt2img_prompt textarea")).to_have_value(f"a photo of {NAME}")
    fill(page, "txt2img_seed", "7")
    fill(page, "txt2img_steps", "20")
    job = generated(page, studio, "txt2img")
    expect(page.locator("#txt2img_infotext")).to_contain_text("Seed: 7")
    expect(page.locator("#txt2img_gallery img").first).to_be_visible()
    shot(page, "txt2img")
    path = Path(job.result["images"][0])
    assert Image.open(path).text["parameters"].startswith(f"a photo of {NAME}\nSteps: 20")
    return path


def inpaint(page: Page, studio: Studio, original: Path) -> None:
    """Send it on, paint a mask with the mouse, and get a picture whose unmasked pixels are the same."""
    page.locator("#txt2img_send_to_inpaint").click()
    expect(page.locator("#img2img_prompt textarea")).to_have_value(f"a photo of {NAME}")
    expect(page.locator("#img2img_canvas .canvas-info")).to_contain_text("128 × 128")
    brush(page, "size", "24")
    drag(page, (0.4, 0.5), (0.6, 0.55))
    fill(page, "img2img_mask_blur", "2")
    job = generated(page, studio, "img2img")
    shot(page, "inpaint")
    before = np.asarray(Image.open(original).convert("RGB"), dtype=int)
    given = np.asarray(Image.open(job.request["init_image"]).convert("RGB"), dtype=int)
    after = np.asarray(Image.open(job.result["images"][0]).convert("RGB"), dtype=int)
    mask = np.asarray(Image.open(job.request["mask"]).convert("RGBA"))[..., 3]
    assert np.array_equal(before, given)
    assert 0 < (mask > 0).mean() < 0.5
    reach = _grown(mask > 0, 12)
    assert np.array_equal(before[~reach], after[~reach])
    assert np.abs(before[mask > 250] - after[mask > 250]).mean() > 1


def _grown(mask: np.ndarray, by: int) -> np.ndarray:
    """A mask grown by some pixels each way."""
    from scipy.ndimage import binary_dilation

    return binary_dilation(mask, iterations=by)


def test_from_a_dozen_pictures_to_an_inpainted_one(page: Page, studio: Studio) -> None:
    shot(page, "first-visit")
    prepare(page, studio)
    create(page, studio)
    start(page)
    watch(page, studio)
    stop(page, studio)
    original = paint(page, studio)
    inpaint(page, studio, original)
    tab(page, "Runs")
    expect(page.locator("#runs_table")).to_contain_text(NAME)
    expect(page.locator("#checklist")).to_be_hidden()
    shot(page, "runs")
    assert not re.search(r"Traceback", (studio.root / "serve.log").read_text(encoding="utf-8"))
    assert newest(studio, "train").result["steps"] > 20
