"""The tagger's network is built from its file, its scores become tags by rule, and a wrong file is refused in words."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from studio.dataset.captioners import find_deepbooru, load_tagger
from studio.dataset.deepbooru import LAST, SIDE, STAGES, fit, load_deepbooru, text_of
from studio.dataset.tag_text import text_of_tags
from studio.errors import NotFound, Unreadable
from studio.requests.caption import CaptionOptions
from studio.settings import Paths

TAGS = ["1girl", "long_hair", "hat_(black)", "rating:safe", "^_^"]
MIDDLE, OUTER = 2, (3, 4, 5, 5, 6, 6)


def layout() -> dict[str, tuple[int, int, int]]:
    """Output width, input width and kernel of each convolution of a thin network, spelled out apart from the loader."""
    shapes = {"n_Conv_0": (3, 3, 7)}
    number, width = 1, 3
    for (blocks, _, projection_first), outer in zip(STAGES, OUTER, strict=True):
        main = [(MIDDLE, width, 1), (MIDDLE, MIDDLE, 3), (outer, MIDDLE, 1)]
        projection = (outer, width, 1)
        rest = [shape for _ in range(blocks - 1) for shape in ((MIDDLE, outer, 1), (MIDDLE, MIDDLE, 3), (outer, MIDDLE, 1))]
        for shape in ([projection, *main] if projection_first else [*main, projection]) + rest:
            shapes[f"n_Conv_{number}"] = shape
            number += 1
        width = outer
    shapes[f"n_Conv_{number}"] = (len(TAGS), width, 1)
    return shapes


def random_state(dtype: torch.dtype = torch.float32) -> dict[str, object]:
    """The entries of a tagger's file with random weights."""
    source = torch.Generator().manual_seed(0)
    state: dict[str, object] = {}
    for name, (out, into, size) in layout().items():
        state[f"{name}.weight"] = (torch.randn(out, into, size, size, generator=source) / (into * size * size) ** 0.5).to(dtype)
        if name != f"n_Conv_{LAST}":
            state[f"{name}.bias"] = (torch.randn(out, generator=source) * 0.1).to(dtype)
    state["tags"] = list(TAGS)
    return state


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A tagger's file, as the real one is laid out: a state dict with an entry `tags`."""
    torch.save(random_state(), tmp_path / "model-resnet_custom_v3.pt")
    return tmp_path / "model-resnet_custom_v3.pt"


def picture(seed: int = 0, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Noise."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def batch(*pictures: Image.Image) -> Tensor:
    """Pictures as the network takes them."""
    return torch.stack([torch.from_numpy(np.array(fit(p))) for p in pictures]).float() / 255


def test_the_last_convolution_of_the_layout_is_number_178() -> None:
    assert list(layout())[-1] == f"n_Conv_{LAST}" == "n_Conv_178"


def test_a_file_of_the_real_layout_loads_and_scores(file: Path) -> None:
    network = load_deepbooru(file)
    scores = network(batch(picture(), picture(1)))
    assert network.tags == TAGS
    assert scores.shape == (2, len(TAGS))
    assert bool(((scores > 0) & (scores < 1)).all())
    assert not torch.equal(scores[0], scores[1])


def test_every_weight_of_the_file_takes_part_in_the_score(file: Path) -> None:
    network = load_deepbooru(file).double()
    for value in network.parameters():
        value.copy_(0.3 * value.abs() / value.abs().flatten(1).sum(1).max() if value.dim() == 4 else torch.full_like(value, 0.01))
    small = batch(picture()).double()[:, 192:320, 192:320]
    scores, idle = network(small), []
    for name, value in network.named_parameters():
        value.mul_(1.5)
        idle += [name] if torch.equal(network(small), scores) else []
        value.div_(1.5)
    assert idle == []


def test_a_picture_is_scored_the_same_alone_and_among_others(file: Path) -> None:
    network = load_deepbooru(file)
    both = batch(picture(), picture(1))[:, 192:320, 192:320]
    torch.testing.assert_close(network(both)[:1], network(both[:1]), rtol=1e-4, atol=1e-5)


def test_a_file_of_half_precision_scores_nearly_the_same(file: Path, tmp_path: Path) -> None:
    torch.save(random_state(torch.float16), tmp_path / "half.pt")
    half = load_deepbooru(tmp_path / "half.pt")
    assert next(half.parameters()).dtype == torch.float32
    torch.testing.assert_close(half(batch(picture())), load_deepbooru(file)(batch(picture())), rtol=0.02, atol=0.02)


def test_the_tagger_writes_the_tags_whose_score_reaches_the_threshold(file: Path) -> None:
    tagger = load_tagger(file, torch.device("cpu"))
    scores = dict(zip(TAGS, load_deepbooru(file)(batch(picture()))[0].tolist(), strict=True))
    ranked = sorted(scores.values())
    middle = (ranked[1] + ranked[2]) / 2
    assert tagger.caption(picture(), 0.0) == r"1girl, ^ ^, hat \(black\), long hair"
    assert tagger.caption(picture(), 1.0) == ""
    assert tagger.caption(picture(), middle) == text_of(list(scores.values()), TAGS, middle)
    assert tagger.caption(picture(), middle) != tagger.caption(picture(), 0.0)


def test_the_tagger_looks_at_several_pictures_at_once(file: Path) -> None:
    tagger = load_tagger(file, torch.device("cpu"))
    options = CaptionOptions(threshold=0.0, tag_scores=True)
    pictures = [picture(0), picture(1, (30, 90)), picture(2, (90, 30))]
    together = [text_of_tags(saying.tags, options) for saying in tagger.sayings(pictures, options)]
    alone = [text_of_tags(tagger.sayings([p], options)[0].tags, options) for p in pictures]
    assert together == alone
    assert len(set(together)) == 3


def test_every_rule_of_the_words_is_followed(file: Path) -> None:
    tagger = load_tagger(file, torch.device("cpu"))
    scores = dict(zip(TAGS, load_deepbooru(file)(batch(picture()))[0].tolist(), strict=True))
    surest = sorted((tag for tag in TAGS if not tag.startswith("rating:")), key=lambda tag: -scores[tag])
    everything = {"threshold": 0.0, "tag_spaces": False, "tag_escape": False}
    assert tagger.caption(picture(), CaptionOptions(tag_sort="score", **everything)) == ", ".join(surest)
    assert tagger.caption(picture(), CaptionOptions(tag_sort="score", tag_scores=True, **everything)) == ", ".join(f"({tag}:{scores[tag]:.3f})" for tag in surest)
    assert tagger.caption(picture(), CaptionOptions(tag_exclude="long hair, hat_(*), rating:*", **everything)) == "1girl, ^_^"
    assert tagger.caption(picture(), CaptionOptions(tag_limit=1, **everything)) == surest[0]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_the_tagger_takes_a_picture_of_any_mode(file: Path, mode: str) -> None:
    assert load_tagger(file, torch.device("cpu")).caption(picture().convert(mode), 0.0)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: s.pop("tags"),
        lambda s: s.update(tags="1girl"),
        lambda s: s.pop("n_Conv_7.weight"),
        lambda s: s.pop("n_Conv_7.bias"),
        lambda s: s.update({"extra.weight": torch.zeros(1)}),
        lambda s: s.update({"n_Conv_7.weight": torch.zeros(3)}),
        lambda s: s.update({"n_Conv_7.bias": torch.zeros(99)}),
        lambda s: s.update({"n_Conv_7.weight": "words"}),
        lambda s: s.update({"n_Conv_20.weight": torch.zeros(2, 77, 1, 1)}),
        lambda s: s.update(tags=TAGS[:-1]),
        lambda s: s.clear(),
    ],
    ids=[
        "no tags",
        "tags of a wrong kind",
        "a weight missing",
        "a bias missing",
        "something more",
        "a flat weight",
        "a long bias",
        "words for a weight",
        "a width that does not fit",
        "a tag missing",
        "nothing",
    ],
)
def test_a_file_of_another_layout_is_refused_in_words(tmp_path: Path, spoil: object) -> None:
    state = random_state()
    spoil(state)
    torch.save(state, tmp_path / "wrong.pt")
    with pytest.raises(Unreadable, match=r"wrong\.pt") as caught:
        load_deepbooru(tmp_path / "wrong.pt")
    assert caught.value.hint


@pytest.mark.parametrize("data", [b"", b"no model", bytes(500)])
def test_a_file_that_is_no_model_is_refused_in_words(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "wrong.pt").write_bytes(data)
    with pytest.raises(Unreadable, match=r"wrong\.pt"):
        load_deepbooru(tmp_path / "wrong.pt")


def test_a_model_of_another_kind_is_refused_in_words(tmp_path: Path) -> None:
    for number, value in enumerate((torch.zeros(3), [1, 2], {"state_dict": {"weight": torch.zeros(3)}})):
        torch.save(value, tmp_path / f"{number}.pt")
        with pytest.raises(Unreadable, match=r"not a DeepBooru tagger"):
            load_deepbooru(tmp_path / f"{number}.pt")


def test_a_cut_model_is_refused_in_words(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(Unreadable):
        load_deepbooru(file)


def test_an_own_tagger_is_found_before_the_shipped_one(root: Paths) -> None:
    root.deepbooru.mkdir(parents=True)
    (root.deepbooru / "own.pt").touch()
    assert find_deepbooru(root) == root.deepbooru / "own.pt"


def test_a_studio_without_a_tagger_says_where_to_put_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.settings.SHIPPED_ROOT", tmp_path / "elsewhere")
    with pytest.raises(NotFound, match=r"models/torch_deepdanbooru"):
        find_deepbooru(Paths(tmp_path / "new"))


@pytest.mark.parametrize("size", [(300, 100), (100, 300), (512, 512), (1, 1), (1, 2000), (2000, 1), (511, 512), (37, 36)])
def test_any_shape_is_fitted_into_the_square(size: tuple[int, int]) -> None:
    assert fit(picture(size=size)).size == (SIDE, SIDE)


@pytest.mark.parametrize(("size", "sides", "corner"), [((300, 101), (512, 172), (0, 170)), ((100, 301), (170, 512), (171, 0)), ((37, 36), (512, 498), (0, 7)), ((333, 200), (512, 307), (0, 103))])
def test_sides_and_margins_are_rounded_down(size: tuple[int, int], sides: tuple[int, int], corner: tuple[int, int]) -> None:
    """A1111's integers: 101 * 512 // 300 = 172 and 256 - 172 // 2 = 170; 200 * 512 // 333 = 307 and 256 - 307 // 2 = 103."""
    image = picture(size=size)
    box = (*corner, corner[0] + sides[0], corner[1] + sides[1])
    assert fit(image).crop(box).tobytes() == image.resize(sides, Image.Resampling.LANCZOS).tobytes()


def test_the_room_beside_a_picture_is_filled_with_its_edge() -> None:
    wide = Image.new("RGB", (200, 100), (200, 0, 0))
    wide.paste((0, 0, 200), (0, 50, 200, 100))
    fitted = fit(wide)
    assert [fitted.getpixel((256, y)) for y in (0, 100, 400, 511)] == [(200, 0, 0)] * 2 + [(0, 0, 200)] * 2
    tall = fit(wide.rotate(90, expand=True))
    assert [tall.getpixel((x, 256)) for x in (0, 100, 400, 511)] == [(200, 0, 0)] * 2 + [(0, 0, 200)] * 2


def test_tags_are_in_alphabetical_order_with_spaces() -> None:
    assert text_of([0.9, 0.6, 0.8], ["long_hair", "blue_eyes", "1girl"], 0.5) == "1girl, blue eyes, long hair"


def test_a_score_at_the_threshold_counts_and_one_below_does_not() -> None:
    assert text_of([0.5, 0.4999], ["a", "b"], 0.5) == "a"


def test_ratings_are_left_out() -> None:
    assert text_of([1.0, 1.0, 1.0], ["rating:safe", "cat", "rating:explicit"], 0.5) == "cat"


def test_brackets_and_backslashes_are_escaped() -> None:
    assert text_of([1.0, 1.0], ["saber_(fate)", "\\m/"], 0.5) == r"\\m/, saber \(fate\)"


def test_no_tag_over_the_threshold_gives_no_text() -> None:
    assert text_of([0.1], ["a"], 0.5) == ""
