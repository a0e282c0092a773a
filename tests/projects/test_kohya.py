"""Trees and configurations of kohya's trainers are read as they are meant, and mistakes in them are told with their line."""

import json
from pathlib import Path, PurePosixPath

import pytest

from studio.errors import InputError
from studio.projects.importing import ImportOptions, import_into
from studio.projects.kohya import Subset, read_metadata, read_toml, read_tree
from studio.projects.project import Project
from tests.projects.small_pictures import encoded, lay, masked, reasons, zipped


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A new, empty data set."""
    folder = tmp_path / "data set"
    folder.mkdir()
    return folder


def kept(folder: Path) -> dict[str, tuple[str, int]]:
    """Caption and repeats by picture."""
    return {item.name: (item.caption, item.choices.repeats) for item in Project(folder).items()}


TREE: dict[str, bytes | str] = {
    "img/10_ohwx cat/a.png": encoded(1),
    "img/10_ohwx cat/a.txt": "a cat of its own",
    "img/10_ohwx cat/b.png": encoded(2),
    "img/10_ohwx cat/b-masklabel.png": masked(),
    "img/3_猫/a.png": encoded(3),
    "reg/1_cat/r.png": encoded(4),
    "log/events.txt": "log",
    "model/last.safetensors": "tensors",
}


@pytest.mark.parametrize(
    ("folders", "found"),
    [
        (["10_ohwx cat", "reg/1_cat"], [Subset("10_ohwx cat", 10, "ohwx cat"), Subset("reg/1_cat", 1, "cat", True)]),
        (["set/img/5_a_b", "set/reg/2_b"], [Subset("set/img/5_a_b", 5, "a_b"), Subset("set/reg/2_b", 2, "b", True)]),
        (["7_"], [Subset("7_", 7, "")]),
        (["day 1", "day 2"], []),
        (["2023_summer"], []),
        (["0_never"], []),
        (["10ohwx"], []),
        ([".", "10_ohwx"], []),
        ([], []),
    ],
)
def test_a_tree_is_known_by_its_folders(folders: list[str], found: list[Subset]) -> None:
    assert read_tree(map(PurePosixPath, folders)) == found


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("below", ["", "my set/"])
def test_a_tree_gives_repeats_and_captions_as_folder_and_as_zip(tmp_path: Path, room: Path, packed: bool, below: str) -> None:
    source = lay(tmp_path / "source", {below * packed + name: data for name, data in TREE.items()})
    done = import_into(room, zipped(tmp_path / "z.zip", source) if packed else source)
    assert kept(room) == {"a.png": ("a cat of its own", 10), "b.png": ("ohwx cat", 10), "3_猫-a.png": ("猫", 3)}
    assert Project(room).item("b.png").mask_name == "b-masklabel.png"
    assert (done.captions, done.masks, len(done.added)) == (3, 1, 3)
    assert "Read as a data set of kohya's: 10_ohwx cat (10x), 3_猫 (3x), 1_cat (1x, regularisation)." in done.notes
    assert any("1 regularisation pictures in 1_cat were left out" in reason for reason in reasons(done).values())
    assert Project(room).history() == []


def test_regularisation_pictures_come_on_request(tmp_path: Path, room: Path) -> None:
    import_into(room, lay(tmp_path / "source", TREE), ImportOptions(regularisation=True))
    assert kept(room)["r.png"] == ("cat", 1)


def test_masks_may_lie_in_folders_of_their_own(tmp_path: Path, room: Path) -> None:
    import_into(room, lay(tmp_path / "source", {"10_x/a.jpg": encoded(1, "JPEG"), "masks/10_x/a.png": masked()}))
    assert set(kept(room)) == {"a.jpg"}
    assert Project(room).item("a.jpg").mask_name == "a-masklabel.png"


def test_pictures_beside_the_folders_make_it_an_ordinary_folder(tmp_path: Path, room: Path) -> None:
    import_into(room, lay(tmp_path / "source", {"a.png": encoded(1), "10_x/b.png": encoded(2)}), ImportOptions(recursive=True))
    assert kept(room) == {"a.png": ("", 1), "b.png": ("", 1)}


TOML = """
[general]
caption_extension = ".caption"
keep_tokens = 2

[[datasets]]
resolution = 512
num_repeats = 4

  [[datasets.subsets]]
  image_dir = 'cats'
  class_tokens = 'ohwx cat'
  num_repeats = 12

  [[datasets.subsets]]
  image_dir = 'D:\\train\\dogs'
  caption_extension = "txt"
  metadata_file = 'dogs.json'

  [[datasets.subsets]]
  image_dir = 'class'
  is_reg = true
  class_tokens = 'cat'
"""


def test_a_configuration_says_what_each_folder_is() -> None:
    assert read_toml(TOML.encode(), "d.toml") == [
        Subset("cats", 12, "ohwx cat", False, ".caption", "", 2),
        Subset("D:\\train\\dogs", 4, "", False, ".txt", "dogs.json", 2),
        Subset("class", 4, "cat", True, ".caption", "", 2),
    ]


@pytest.mark.parametrize("data", [b"\xef\xbb\xbf" + TOML.encode(), TOML.replace("\n", "\r\n").encode(), ("# 猫\n" + TOML).encode("gbk"), TOML.encode("utf-16")])
def test_a_configuration_is_read_in_the_encoding_it_is_in(data: bytes) -> None:
    assert [subset.repeats for subset in read_toml(data, "d.toml")] == [12, 4, 4]


@pytest.mark.parametrize("packed", [False, True])
def test_the_folders_of_a_configuration_are_found_beside_it(tmp_path: Path, room: Path, packed: bool) -> None:
    source = lay(
        tmp_path / "source",
        {
            "data.toml": TOML,
            "cats/a.png": encoded(1),
            "cats/a.caption": "of its own",
            "cats/a.txt": "not this",
            "cats/b.png": encoded(2),
            "dogs/c.png": encoded(3),
            "class/r.png": encoded(4),
            "dogs.json": json.dumps({"D:\\train\\dogs\\c.png": {"caption": "a dog", "tags": "fur, tail"}}),
        },
    )
    done = import_into(room, zipped(tmp_path / "z.zip", source) if packed else source / "data.toml")
    assert kept(room) == {"a.png": ("of its own", 12), "b.png": ("ohwx cat", 12), "c.png": ("a dog, fur, tail", 4)}
    assert done.notes[-1].startswith("Read as a data set of kohya's: cats (12x), dogs (4x)")


def test_a_configuration_may_name_folders_anywhere(tmp_path: Path, room: Path) -> None:
    lay(tmp_path / "far away", {"a.png": encoded(1)})
    lay(tmp_path / "near", {"b.png": encoded(2)})
    text = f"[[datasets]]\nsubsets = [{{image_dir = '{tmp_path / 'far away'}', num_repeats = 2}}, {{image_dir = '../near'}}, {{image_dir = 'gone'}}]"
    done = import_into(room, lay(tmp_path / "here", {"d.toml": text}) / "d.toml")
    assert kept(room) == {"a.png": ("", 2), "b.png": ("", 1)}
    assert reasons(done) == {"gone": "The folder 'gone' that d.toml names is not there."}


@pytest.mark.parametrize("folder", ["/etc", "../outside", "..", "/", "C:\\outside", "x/../../outside"])
def test_a_configuration_in_a_zip_names_nothing_outside_the_zip(tmp_path: Path, room: Path, folder: str) -> None:
    lay(tmp_path / "outside", {"secret.png": encoded(9)})
    source = lay(tmp_path / "source", {"d.toml": f"[[datasets]]\n[[datasets.subsets]]\nimage_dir = '{folder}'", "a.png": encoded(1)})
    import_into(room, zipped(tmp_path / "z.zip", source))
    assert set(kept(room)) == {"a.png"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[general\n", "at line 1"),
        ('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "C:\\Users\\me"\n', "at line 3"),
        ("[[datasets]]\n\n[[datasets.subsets]]\nimage_dir = 'a'\n[[datasets.subsets]]\nimage_dir = 'b'\nnum_repeats = 'ten'\n", "d.toml, line 7: `num_repeats` is 'ten', not a whole number."),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'a'\nnum_repeats = 0\n", "d.toml, line 4: `num_repeats` is 0."),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'a'\nnum_repeats = true\n", "line 4: `num_repeats` is True"),
        ("[[datasets]]\nis_reg = 1\n[[datasets.subsets]]\nimage_dir = 'a'\n", "line 2: `is_reg` is 1, not true or false."),
        ("[[datasets]]\n# one\n[[datasets.subsets]]\nnum_repeats = 3\n", "line 3: this subset has no image_dir."),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 7\n", "line 3: `image_dir` is 7, not text in quotes."),
        ("\n[datasets]\nresolution = 512\n", "line 2: `datasets` is not a list of tables."),
        ("[[datasets]]\n\n[datasets.subsets]\nimage_dir = 'a'\n", "is not a list of tables"),
        ("general = 3\n", "line 1: `general` is not a table."),
        ("", "no [[datasets.subsets]]"),
        ("[[datasets]]\nresolution = 512\n", "no [[datasets.subsets]]"),
        ("datasets = [{subsets = [{image_dir = 'a', class_tokens = 4}]}]", "line 1: `class_tokens` is 4"),
    ],
)
def test_a_mistake_in_a_configuration_is_told_with_its_line(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_toml(text.encode(), "d.toml")
    assert words in caught.value.message
    assert caught.value.hint


def test_a_configuration_without_any_folder_that_is_there_is_refused(tmp_path: Path, room: Path) -> None:
    with pytest.raises(InputError, match=r"d\.toml"):
        import_into(room, lay(tmp_path / "x", {"d.toml": "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'gone'"}) / "d.toml")


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("m.json", {"/x/a.png": {"caption": "one"}, "b.v2": {"tags": "t"}, "c.jpg": {"caption": "c", "tags": "d"}, "e": {}, "f": 3}, {"a": "one", "b.v2": "t", "c": "c, d", "e": ""}),
        ("m.jsonl", '{"file_name": "a.png", "text": "one\u2028two"}\n\n{"file_name": "x/b.png", "text": "b"}\n{"other": 1}', {"a.png": "one\u2028two", "x/b.png": "b"}),
        ("m.csv", 'file_name,text\r\na.png,"one, ""two""\nthree"\r\nb.png,\r\n', {"a.png": 'one, "two"\nthree', "b.png": ""}),
    ],
)
def test_captions_in_one_file_are_read(name: str, data: object, found: dict[str, str]) -> None:
    text = data if isinstance(data, str) else json.dumps(data)
    assert read_metadata(text.encode(), name) == found


@pytest.mark.parametrize(("name", "text"), [("m.json", "{"), ("m.json", "[1]"), ("m.jsonl", '{"file_name": "a"'), ("m.json", "[" * 100_000), ("m.csv", "file_name,text\n" + "x" * 200_000 + "\0,")])
def test_a_broken_file_of_captions_is_told_in_words(name: str, text: str) -> None:
    with pytest.raises(InputError, match=name):
        read_metadata(text.encode(), name)


def test_one_file_of_captions_describes_a_folder_and_those_below(tmp_path: Path, room: Path) -> None:
    lines = [{"file_name": "a.png", "text": "one"}, {"file_name": "x/b.png", "text": "two"}, {"file_name": "c.png", "text": "not this"}]
    source = lay(tmp_path / "source", {"a.png": encoded(1), "x/b.png": encoded(2), "c.png": encoded(3), "c.txt": "own", "metadata.jsonl": "\n".join(map(json.dumps, lines))})
    import_into(room, source, ImportOptions(recursive=True))
    assert kept(room) == {"a.png": ("one", 1), "b.png": ("two", 1), "c.png": ("own", 1)}


def test_repeats_of_a_stopped_import_are_kept(tmp_path: Path, room: Path) -> None:
    source = lay(tmp_path / "source", {f"7_x/{i}.png": encoded(i) for i in range(4)})
    seen: list[int] = []
    done = import_into(room, source, on_step=lambda done, *_: seen.append(done), stop=lambda: len(seen) == 2)
    assert done.stopped
    assert kept(room) == {"0.png": ("x", 7), "1.png": ("x", 7)}


@pytest.mark.parametrize("spelled", ["absolute", "relative", "backslashes", "link", "metadata"])
def test_a_dropped_toml_takes_nothing_from_elsewhere(room: Path, tmp_path: Path, spelled: str) -> None:
    secret = lay(tmp_path / "secret" / "pictures", {"a.png": encoded(1), "a.txt": "a secret", "m.json": '{"own": {"caption": "a secret"}}'})
    drop = lay(tmp_path / "drop" / "0" / "mine", {"own.png": encoded(2)})
    (drop / "link").symlink_to(secret)
    folder = {"absolute": str(secret), "relative": "../../../secret/pictures", "backslashes": "..\\..\\..\\secret\\pictures", "link": "link", "metadata": "."}[spelled]
    metadata = f"metadata_file = '{secret / 'm.json'}'" if spelled == "metadata" else ""
    lay(drop, {"d.toml": f"[[datasets]]\n[[datasets.subsets]]\nimage_dir = '{folder}'\n{metadata}"})
    done = import_into(room, sorted(path for path in drop.iterdir() if path.is_file()))
    assert set(done.added) == {"own.png"}
    assert done.captions == 0
    if spelled != "metadata":
        assert any("has to be imported by its path" in refused.reason for refused in done.skipped)
        assert set(import_into(room, drop / "d.toml").added) == {"a.png"}
