"""Files that are whole or not there, and pickles that run nothing."""

import errno
import hashlib
import os
import pickle
import random
import stat
from pathlib import Path

import pytest
import torch

from studio.errors import OutOfSpace, Unreadable
from studio.files import atomic_write, sha256
from studio.formats.pickles import load_pickle


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def fail(path: Path, error: Exception) -> None:
    """Write half a file, then raise."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"half")
        raise error


def test_the_file_is_written_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "file.bin"
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"whole")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_bytes() == b"whole"
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_the_old_file_stays_while_the_block_writes(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(errno.EACCES, "no")])
def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(type(error)):
        fail(path, error)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


def test_a_full_disk_is_told_in_words_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(OutOfSpace, match=r"The disk is full: file\.bin was not written"):
        fail(path, OSError(errno.ENOSPC, "No space left on device"))
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_others_may_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_and_plain_values_are_read(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "good.pt"
    torch.save({"a": torch.arange(3.0), "b": ["x", 1]}, path, _use_new_zipfile_serialization=zipped)
    data = load_pickle(path)
    assert data["a"].tolist() == [0, 1, 2]
    assert data["b"] == ["x", 1]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path, zipped: bool) -> None:
    path, mark = tmp_path / "bad.pt", tmp_path / "ran"
    torch.save({"a": torch.zeros(1), "b": Bomb(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(Unreadable, match=r"bad\.pt cannot be read safely .*mkdir") as raised:
        load_pickle(path)
    assert "Nothing in it was run" in raised.value.hint
    assert not mark.exists()


def test_a_plain_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    path, mark = tmp_path / "bad.pt", tmp_path / "ran"
    path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(Unreadable, match=r"bad\.pt cannot be read safely"):
        load_pickle(path)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02", b"PK\x03\x04 not a zip", b"\x80\x02}q\x00(X\xff\xff\xff\x7f", bytes(range(256)), "ünïcode".encode("utf-16")])
def test_a_damaged_file_is_told_in_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.pt"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match=r"bad\.pt cannot be read safely"):
        load_pickle(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_at_any_place_is_told_in_words(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "cut.pt"
    torch.save({"a": torch.arange(40.0)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for at in range(0, len(whole) - 1, max(1, len(whole) // 60)):
        path.write_bytes(whole[:at])
        with pytest.raises(Unreadable):
            load_pickle(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_with_one_wrong_byte_is_read_or_told_in_words(tmp_path: Path, zipped: bool) -> None:
    path, refused = tmp_path / "spoilt.pt", 0
    torch.save({"string_to_param": {"*": torch.arange(40.0)}, "step": 4}, path, _use_new_zipfile_serialization=zipped)
    whole, dice = path.read_bytes(), random.Random(1)
    for _ in range(600):
        spoilt = bytearray(whole)
        spoilt[dice.randrange(len(whole))] = dice.randrange(256)
        path.write_bytes(spoilt)
        try:
            load_pickle(path)
        except Unreadable:
            refused += 1
    assert refused > 50


def test_a_missing_file_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_pickle(tmp_path / "none.pt")


def test_the_hash_is_sha_256_and_the_short_one_its_first_ten_digits(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"abc")
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(b"x" * 3_000_000)
    assert sha256(path) == hashlib.sha256(b"x" * 3_000_000).hexdigest()
