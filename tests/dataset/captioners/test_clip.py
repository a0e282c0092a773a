"""CLIP's features are open_clip's own, phrases are ranked by them, and no file of it is run."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from studio.dataset.captioners import clip as module
from studio.dataset.captioners.clip import Clip, clip_features, load_clip, read_lists
from studio.dataset.captioners.phrases import LISTS
from studio.dataset.captioners.torchscript import read_torchscript
from studio.errors import NotFound, Unreadable
from studio.requests.caption import CaptionOptions
from studio.settings import Paths
from tests.dataset.captioners.small import CLIP, picture, write_clip

CPU = torch.device("cpu")
PICTURES = [picture(seed, (40 + 3 * seed, 50)) for seed in range(5)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP in a studio of its own."""
    return write_clip(tmp_path_factory.mktemp("studio") / "models" / "CLIP" / "small")


@pytest.fixture
def clip(folder: Path) -> Clip:
    """The small CLIP, loaded."""
    return load_clip(folder, CPU)


def reference(folder: Path) -> tuple[nn.Module, object, object]:
    """Network, preparation and tokenizer as open_clip itself loads the folder."""
    import open_clip

    network, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return network.eval(), prepare, open_clip.get_tokenizer(f"local-dir:{folder}")


@torch.no_grad()
def test_features_of_pictures_are_open_clips(folder: Path, clip: Clip) -> None:
    network, prepare, _ = reference(folder)
    expected = torch.cat([nn.functional.normalize(network.encode_image(prepare(p)[None]), dim=-1) for p in PICTURES])
    torch.testing.assert_close(clip.features(PICTURES), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(clip.features(PICTURES).norm(dim=1), torch.ones(5))


def test_no_pictures_have_no_features(clip: Clip) -> None:
    assert clip.features([]).shape[0] == 0


@torch.no_grad()
def test_the_best_phrases_are_those_open_clip_ranks_first(folder: Path, clip: Clip) -> None:
    network, prepare, tokenize = reference(folder)
    said = [saying.sentence for saying in clip.sayings(PICTURES, CaptionOptions(clip_phrases=2, tag_scores=True))]
    for image, sentence in zip(PICTURES, said, strict=True):
        looked, expected = network.encode_image(prepare(image)[None], normalize=True), []
        for _, lines in LISTS:
            shares = (network.logit_scale.exp() * looked @ network.encode_text(tokenize(list(lines)), normalize=True).T).softmax(1)[0]
            best = shares.argsort(descending=True)[:2].tolist()
            expected += [f"({lines[i]}:{shares[i]:.3f})" for i in best]
        assert sentence == ", ".join(expected)
    assert len(set(said)) > 1


def test_the_number_of_phrases_and_what_is_left_out_are_asked_for(clip: Clip) -> None:
    one = clip.caption(PICTURES[0], CaptionOptions())
    assert len(one.split(", ")) == len(LISTS)
    assert clip.caption(PICTURES[0], CaptionOptions(clip_phrases=0)) == ""
    worst = one.split(", ")[0]
    assert worst not in clip.caption(PICTURES[0], CaptionOptions(tag_exclude=worst))


def test_features_of_a_list_are_kept_on_disk_by_its_content(folder: Path) -> None:
    lists = folder.parent.parent / "interrogate"
    lists.mkdir()
    (lists / "mediums.txt").write_text("a photo\na drawing\n\na photo\n", encoding="utf-8")
    try:
        clip = load_clip(folder, CPU)
        assert [(p.name, p.lines) for p in clip.lists] == [("mediums", ("a photo", "a drawing"))]
        first = clip.caption(PICTURES[0], CaptionOptions())
        again = load_clip(folder, CPU)
        again.text_features = lambda texts: pytest.fail(f"{texts} are encoded again")  # type: ignore[method-assign]
        assert again.caption(PICTURES[0], CaptionOptions()) == first
        assert clip.memory is not None
        for file in clip.memory.iterdir():
            file.write_bytes(b"damaged")
        assert load_clip(folder, CPU).caption(PICTURES[0], CaptionOptions()) == first
        (lists / "mediums.txt").write_text("an etching\n", encoding="utf-8")
        assert load_clip(folder, CPU).caption(PICTURES[0], CaptionOptions()) == "an etching"
    finally:
        (lists / "mediums.txt").unlink()
        lists.rmdir()


def test_a_list_may_say_how_many_phrases_it_gives(tmp_path: Path) -> None:
    (tmp_path / "flavors.top3.txt").write_text("a\nb\nc\nd\n")
    (tmp_path / "artists.txt").write_bytes("\ufeffby Dürer\n".encode())
    (tmp_path / "empty.txt").touch()
    assert [(p.name, p.lines, p.top) for p in read_lists(tmp_path)] == [("artists", ("by Dürer",), None), ("flavors", ("a", "b", "c", "d"), 3)]


def test_a_long_list_is_cut_and_an_unreadable_one_told(tmp_path: Path) -> None:
    (tmp_path / "flavors.txt").write_text("\n".join(map(str, range(2000))))
    assert len(read_lists(tmp_path)[0].lines) == 1500
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Unreadable, match=r"bad\.txt"):
        read_lists(tmp_path)


def test_the_lists_that_come_along_have_no_phrase_twice() -> None:
    assert [name for name, _ in LISTS] == ["artists", "mediums", "movements", "flavors"]
    assert all(len(lines) > 40 and len({line.lower() for line in lines}) == len(lines) for _, lines in LISTS)


def named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> Path:
    """The same weights as one file named by an architecture that open_clip is taught; returns it."""
    import json

    import open_clip

    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "ViT-Tiny-16.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(tmp_path / "configs")
    state = load_file(folder / "open_clip_model.safetensors")
    file = tmp_path / f"ViT-Tiny-16-mine{suffix}"
    if suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, file)
    return file


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_one_file_is_loaded_by_the_architecture_in_its_name(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    file = named(folder, tmp_path, monkeypatch, suffix)
    mine, whole = load_clip(file, CPU), load_clip(folder, CPU)
    texts = ["a photo", "a drawing of a cat"]
    torch.testing.assert_close(mine.text_features(texts), whole.text_features(texts))
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(mine.model.encode_image(pixels), whole.model.encode_image(pixels))


def program(state: dict[str, torch.Tensor]) -> nn.Module:
    """A TorchScript program with these parameters in its parts, as OpenAI published its CLIP."""
    root = nn.Module()
    for name, value in state.items():
        part = root
        *path, last = name.split(".")
        for step in path:
            if not hasattr(part, step):
                part.add_module(step, nn.Module())
            part = getattr(part, step)
        part.register_parameter(last, nn.Parameter(value, requires_grad=False))
    return root


class Published(nn.Module):
    """What makes a program of such parts compile."""

    input_resolution: int

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.input_resolution = 32
        for name, child in inner.named_children():
            self.add_module(name, child)
        for name, value in inner.named_parameters(recurse=False):
            self.register_parameter(name, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Something to compile."""
        return x * 2


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
def test_openais_program_is_read_without_running_it_and_gets_the_quick_gelu(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named(folder, tmp_path, monkeypatch, ".safetensors")
    state = load_file(folder / "open_clip_model.safetensors")
    halves = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    file = tmp_path / "ViT-Tiny-16.pt"
    torch.jit.script(Published(program(halves)).eval()).save(str(file))
    read = read_torchscript(file)
    assert read is not None
    assert {key for key in read if key != "training"} >= set(state)
    assert all(torch.equal(read[key], halves[key]) for key in state)
    monkeypatch.setattr(torch.jit, "load", lambda *a, **k: pytest.fail("the program is loaded"))
    quick = load_clip(file, CPU)
    assert any("QuickGELU" in type(part).__name__ for part in quick.model.modules())
    torch.testing.assert_close(quick.model.state_dict()["visual.conv1.weight"], halves["visual.conv1.weight"].float())


def test_a_file_with_a_name_of_no_architecture_is_refused_in_words(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "mystery.safetensors")
    with pytest.raises(Unreadable, match=r"mystery\.safetensors") as caught:
        load_clip(tmp_path / "mystery.safetensors", CPU)
    assert "ViT-L-14" in caught.value.hint


def test_weights_of_another_architecture_are_refused_in_words(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "ViT-B-32.safetensors")
    with pytest.raises(Unreadable, match=r"ViT-B-32\.safetensors"):
        load_clip(tmp_path / "ViT-B-32.safetensors", CPU)


class Spy:
    """A pickle that would run something."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("spy"),)  # type: ignore[return-value]


def test_a_file_that_would_run_something_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle
    import zipfile

    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Spy()}, tmp_path / "ViT-B-32.pt")
    with pytest.raises(Unreadable, match=r"ViT-B-32\.pt"):
        load_clip(tmp_path / "ViT-B-32.pt", CPU)
    with zipfile.ZipFile(tmp_path / "ViT-B-16.pt", "w") as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps(()))
        archive.writestr("archive/data.pkl", pickle.dumps(Spy()))
    with pytest.raises(Unreadable, match=r"ViT-B-16\.pt cannot be read safely"):
        load_clip(tmp_path / "ViT-B-16.pt", CPU)
    assert not (tmp_path / "spy").exists()


@pytest.mark.parametrize("data", [b"", b"nothing", bytes(300)])
def test_a_file_that_is_no_model_is_refused_in_words(tmp_path: Path, data: bytes) -> None:
    for name in ("ViT-B-32.pt", "ViT-B-32.safetensors"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(Unreadable, match=r"ViT-B-32"):
            load_clip(tmp_path / name, CPU)


def test_a_damaged_folder_is_refused_in_words(folder: Path, tmp_path: Path) -> None:
    copy = write_clip(tmp_path / "broken")
    (copy / "open_clip_model.safetensors").unlink()
    with pytest.raises(Unreadable, match="broken"):
        load_clip(copy, CPU)
    (copy / "open_clip_config.json").write_text("{")
    with pytest.raises(Unreadable, match="broken"):
        load_clip(copy, CPU)


def test_features_for_likeness_are_half_precision_by_the_first_clip(root: Paths, folder: Path) -> None:
    with pytest.raises(NotFound, match=r"models/CLIP"):
        clip_features(root, PICTURES)
    (root.models / "CLIP").mkdir(parents=True)
    (root.models / "CLIP" / "mine").symlink_to(folder)
    features = clip_features(root, PICTURES)
    assert (features.shape, features.dtype) == ((5, 16), torch.float16)
    assert torch.equal(features, load_clip(folder, CPU).features(PICTURES).half())


def test_many_pictures_are_encoded_in_batches(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = clip.features(PICTURES)
    monkeypatch.setattr(module, "PICTURES", 2)
    monkeypatch.setattr(module, "TEXTS", 2)
    torch.testing.assert_close(clip.features(PICTURES), whole, rtol=1e-4, atol=1e-5)
    assert clip.text_features(["a", "b", "c"]).shape == (3, 16)
