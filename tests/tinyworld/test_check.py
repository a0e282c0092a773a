"""The check as a person runs it: figures, a contact sheet, and an exit code that means something."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from studio.dataset.deepbooru import load_deepbooru
from studio.tinyworld import tagger
from studio.tinyworld.__main__ import main
from studio.tinyworld.check import BARS, Figures

REPO = Path(__file__).resolve().parents[2]


def test_the_shipped_model_passes_the_quick_check(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    done = subprocess.run([sys.executable, "-m", "studio.tinyworld", "check", "--quick", "--json", "--out", str(sheet)], cwd=REPO, capture_output=True, text=True, check=False)
    figures = json.loads(done.stdout)
    assert figures["missed"] == [], done.stderr
    assert done.returncode == 0
    assert figures["concepts"][0]["trained"] < figures["concepts"][0]["initial"]
    assert Image.open(sheet).width > 500


def test_a_missed_bar_is_said() -> None:
    figures = Figures(subject=0.1, background=1.0, captions=1.0, tags=1.0, concepts=[{"name": "x", "initial": 0.2, "trained": 0.3}])
    assert figures.missed() == [f"subject is 0.100, the bar is {BARS['subject']}", "x: the trained embedding (0.3000) does not beat the initial one (0.2000)"]
    assert Figures(subject=1.0, background=1.0, captions=1.0, tags=1.0, concepts=[{"name": "x", "initial": 0.2, "trained": 0.1}]).missed() == []


def test_the_written_tagger_scores_as_the_trained_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = tagger.Small()
    pixels = torch.rand(4, 3, 128, 128)
    for _ in range(2):
        small(tagger.maps(pixels))
    small.eval()
    file = tmp_path / "tagger.pt"
    torch.save(tagger.exported(small), file)
    whole = load_deepbooru(file)
    large = torch.nn.functional.interpolate(pixels, (512, 512), mode="bicubic", align_corners=False).clamp(0, 1)
    with torch.no_grad():
        right = torch.sigmoid(small(tagger.maps(pixels)))
        found = whole(large.permute(0, 2, 3, 1))
    assert whole.tags == list(tagger.TAGS)
    assert torch.allclose(found, right, atol=0.03)


@pytest.mark.parametrize("words", [["train", "--part", "nose"], ["dance"], []])
def test_words_that_mean_nothing_are_refused(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "studio.tinyworld", *words], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_a_part_can_be_trained_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--part", "autoencoder", "--out", str(tmp_path / "models"), "--state", str(tmp_path / "state"), "--hours", "0.0005"]
    monkeypatch.setattr(sys, "argv", ["tinyworld", *words])
    monkeypatch.setattr(torch, "set_flush_denormal", lambda _on: None)  # it would stay so for the tests that follow
    assert main() == 0
    assert (tmp_path / "models" / "Stable-diffusion" / "tiny-world" / "vae" / "config.json").is_file()
    assert "dB" in capsys.readouterr().out
