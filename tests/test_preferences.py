"""Preferences: kept whole, read when they changed, damaged ones told in words."""

import os
from pathlib import Path

import pytest

from studio.errors import InputError, StudioError
from studio.preferences import Preferences, changed, current_preferences, read_preferences, write_preferences


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where settings would be."""
    return tmp_path / "settings.json"


def test_nothing_set_is_the_defaults(file: Path) -> None:
    assert read_preferences(file) == current_preferences(file) == Preferences()


def test_what_was_set_is_read_again(file: Path) -> None:
    wished = changed(Preferences(), {"cache_gb": 6.5, "memory_mode": "medvram", "sd_vae": "my 模型.vae.pt"})
    write_preferences(file, wished)
    assert read_preferences(file) == wished
    assert [p.name for p in file.parent.iterdir()] == ["settings.json"]


def test_a_change_is_seen_and_an_unchanged_file_is_not_read_twice(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_preferences(file, Preferences(cache_gb=1))
    first = current_preferences(file)
    assert current_preferences(file) is first
    stat = file.stat()
    write_preferences(file, Preferences(cache_gb=2))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # two changes within one tick of the clock
    assert current_preferences(file).cache_gb == 2
    file.unlink()
    assert current_preferences(file) == Preferences()


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", '"text"', "\x00\x01"])
def test_a_damaged_file_is_told_in_words_every_time(file: Path, text: str) -> None:
    file.write_text(text)
    for _ in range(2):
        with pytest.raises(StudioError, match=r"settings\.json"):
            current_preferences(file)


def test_a_settings_file_of_another_program_gives_what_is_known(file: Path) -> None:
    file.write_text('{"samples_format": "webp", "samples_filename_pattern": "", "CLIP_stop_at_last_layers": 2}')
    assert read_preferences(file) == Preferences(samples_format="webp", CLIP_stop_at_last_layers=2)


@pytest.mark.parametrize("values", [{"cache_gb": -1}, {"cache_gb": float("nan")}, {"memory_mode": "highvram"}, {"jpeg_quality": 101}, {"nothing_known": 1}])
def test_a_wrong_value_is_refused_by_name(values: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        changed(Preferences(), values)
    name = next(iter(values))
    assert name in str(caught.value) or "Memory" in str(caught.value) or name.replace("_", " ").capitalize() in str(caught.value)
