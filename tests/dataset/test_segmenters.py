"""Segmenters are found on the shelf, loaded from real folders of transformers with small weights, and tell in words what they cannot use."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image, ImageDraw

from studio.dataset.background import Seed
from studio.dataset.segmenters import (
    SEGMENTERS,
    Classical,
    Labelled,
    Prompted,
    Worded,
    choose,
    chosen,
    find_labelled,
    find_prompted,
    find_salient,
    find_worded,
    load_labelled,
    load_prompted,
    load_worded,
    prompts,
    reference,
)
from studio.errors import InputError, NotFound, Unreadable
from studio.settings import Paths
from tests.dataset.onnx_file import write_pointwise

CPU = torch.device("cpu")
DECODER = {"hidden_size": 8, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_hidden_dim": 8}


def scene(colour: str = "red", place: int = 20) -> tuple[Image.Image, Image.Image]:
    """A disc on blue, and where it is."""
    image, truth = Image.new("RGB", (160, 120), (90, 140, 200)), Image.new("L", (160, 120))
    for target, fill in ((image, {"red": (220, 40, 30), "green": (40, 200, 40)}[colour]), (truth, 255)):
        ImageDraw.Draw(target).ellipse((place, 30, place + 60, 90), fill=fill)
    return image, truth


def overlap(one: Image.Image, other: Image.Image) -> float:
    """Intersection over union."""
    a, b = (np.asarray(mask) >= 128 for mask in (one, other))
    return float((a & b).sum() / max(1, (a | b).sum()))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A studio with one small folder of every kind."""
    paths = Paths(tmp_path_factory.mktemp("shelf"))
    torch.manual_seed(0)
    for make in (sam, sam2, segformer, mask2former, clipseg):
        make(paths.models / "segmentation" / make.__name__)
    write_pointwise(paths.models / "rembg" / "u2net.onnx", (1, 3, 64, 64), (6, -3, -3), 0)
    return paths


def saved(folder: Path, *parts: Any) -> None:
    """Write a network and its processor."""
    for one in parts:
        one.save_pretrained(folder)


def sam(folder: Path) -> None:
    """A SAM of random weights."""
    vision = {"hidden_size": 16, "output_channels": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64, "patch_size": 8}
    vision |= {"mlp_dim": 16, "window_size": 4, "global_attn_indexes": [0], "num_pos_feats": 4}
    prompt = {"hidden_size": 8, "image_size": 64, "patch_size": 8, "mask_input_channels": 4}
    sides = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}, "mask_size": {"longest_edge": 16}, "mask_pad_size": {"height": 16, "width": 16}}
    model = transformers.SamModel(transformers.SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=DECODER))
    saved(folder, model, transformers.SamProcessor(transformers.SamImageProcessor(**sides)))


def sam2(folder: Path) -> None:
    """A SAM 2 of random weights."""
    stages = {"blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [8, 4, 8, 4]}
    backbone = {"model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [64, 64], **stages, "global_attention_blocks": [3], "window_positional_embedding_background_size": [4, 4]}
    vision = {"backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8], "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "fpn_hidden_size": 8}
    prompt = {"hidden_size": 8, "image_size": 64, "patch_size": 16, "mask_input_channels": 4}
    model = transformers.Sam2Model(transformers.Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=DECODER))
    saved(folder, model, transformers.Sam2Processor(transformers.Sam2ImageProcessor(size={"height": 64, "width": 64}, mask_size={"height": 16, "width": 16})))


def segformer_of(labels: list[str]) -> Any:
    """A SegFormer of random weights."""
    widths = {"num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [8, 16], "patch_sizes": [7, 3], "strides": [4, 2]}
    off = {"hidden_dropout_prob": 0.0, "drop_path_rate": 0.0, "classifier_dropout_prob": 0.0}
    config = transformers.SegformerConfig(**widths, **off, num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=8, id2label=dict(enumerate(labels)))
    return transformers.SegformerForSemanticSegmentation(config)


def segformer(folder: Path) -> None:
    """A SegFormer that has learned discs: red ones are persons, green ones dogs."""
    model, processor = segformer_of(["background", "person", "dog"]).train(), transformers.SegformerImageProcessor(size={"height": 64, "width": 64})
    images, masks = [], []
    for first, second in ((5, 90), (90, 5), (35, 100), (100, 30)):
        (image, red), (other, green) = scene("red", first), scene("green", second)
        image.paste(other, (0, 0), green)
        images.append(image)
        masks.append(torch.from_numpy(np.maximum(np.asarray(red) // 255, np.asarray(green) // 255 * 2)).float()[None, None])
    pixels = processor(images=images, return_tensors="pt")["pixel_values"]
    labels = torch.nn.functional.interpolate(torch.cat(masks), (64, 64))[:, 0].long()
    optimizer = torch.optim.Adam(model.parameters(), 3e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(pixel_values=pixels, labels=labels).loss.backward()
        optimizer.step()
    saved(folder, model, processor)


def mask2former(folder: Path) -> None:
    """A Mask2Former of random weights that is sure of what it sees."""
    swin = transformers.SwinConfig(image_size=32, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=2, out_features=["stage1", "stage2", "stage3", "stage4"])
    sizes = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 16, "dim_feedforward": 16}
    config = transformers.Mask2FormerConfig(backbone_config=swin, **sizes, encoder_layers=1, decoder_layers=2, num_attention_heads=2, num_queries=5, num_labels=3)
    model = transformers.Mask2FormerForUniversalSegmentation(config)
    torch.nn.init.constant_(model.class_predictor.bias[1:2], 20.0)
    saved(folder, model, transformers.Mask2FormerImageProcessor(size={"height": 64, "width": 64}, num_labels=3))


def clipseg(folder: Path) -> None:
    """A CLIPSeg of random weights with a vocabulary of letters."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(33, 127)]
    words = {word: i for i, word in enumerate([*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    text = {**shape, "num_hidden_layers": 2, "vocab_size": len(words), "max_position_embeddings": 16, "bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1}
    vision = {**shape, "num_hidden_layers": 3, "image_size": 32, "patch_size": 8}
    decoder = {"reduce_dim": 8, "extract_layers": [1, 2], "decoder_num_attention_heads": 2, "decoder_intermediate_size": 16}
    model = transformers.CLIPSegForImageSegmentation(transformers.CLIPSegConfig(text_config=text, vision_config=vision, projection_dim=16, **decoder))
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)
    saved(folder, model, transformers.CLIPSegProcessor(transformers.ViTImageProcessor(size={"height": 32, "width": 32}), tokenizer))


def test_everything_on_the_shelf_is_found_by_what_its_config_says(shelf: Paths, root: Paths) -> None:
    assert find_prompted(shelf).name == "sam"
    assert find_labelled(shelf).name == "mask2former"
    assert find_worded(shelf).name == "clipseg"
    assert find_salient(shelf).name == "u2net.onnx"
    assert [entry.name for entry in SEGMENTERS if entry.find(root)] == ["GrabCut"], "the classical cut needs nothing"


def test_automatic_takes_the_best_that_is_there_and_words_ask_for_clipseg(shelf: Paths, root: Paths) -> None:
    assert choose("Automatic", root)[0].name == "GrabCut"
    assert choose("Automatic", root, "a dog")[0].name == "GrabCut"
    assert choose("Automatic", shelf)[0].name == "rembg"
    assert choose("Automatic", shelf, "a dog")[0].name == "CLIPSeg"
    assert choose("SAM", shelf)[1].name == "sam"
    with pytest.raises(NotFound, match="models/segmentation"):
        choose("SAM", root)
    with pytest.raises(NotFound, match="Choose one of Automatic, rembg"):
        choose("U-Net", root)


@pytest.mark.parametrize("name", [entry.name for entry in SEGMENTERS])
@pytest.mark.parametrize("size", [(160, 120), (31, 200), (9, 8)])
def test_every_segmenter_gives_greys_of_the_pictures_size(shelf: Paths, name: str, size: tuple[int, int]) -> None:
    entry, path = choose(name, shelf)
    segmenter = entry.load(path, CPU)
    for seed in (Seed(words="dog"), Seed(point=(2.0, -1.0), box=(0.1, 0.1, 0.8, 0.9), words="dog"), Seed(faces=((0.3, 0.2, 0.6, 0.5),), words="dog")):
        cut = segmenter.mask(scene()[0].resize(size), seed)
        assert cut.mask.mode == "L" and cut.mask.size == size
        assert 0 <= cut.confidence <= 1 and (cut.problem == "" or cut.confidence == 0)


def test_a_network_that_has_learned_gives_the_labelled_part(shelf: Paths) -> None:
    segmenter = load_labelled(shelf.models / "segmentation" / "segformer", CPU)
    for colour in ("red", "green"):
        image, truth = scene(colour, 70)
        cut = segmenter.mask(image, Seed())
        assert overlap(cut.mask, truth) > 0.75 and cut.problem == "" and cut.confidence > 0.5


def test_of_two_things_the_painted_one_is_taken(shelf: Paths) -> None:
    segmenter = load_labelled(shelf.models / "segmentation" / "segformer", CPU)
    image, truth = scene("red", 5)
    green, other = scene("green", 90)
    image.paste(green, (0, 0), other)
    for wanted in (truth, other):
        stroke = Image.new("L", image.size)
        left, top, right, bottom = wanted.getbbox()
        ImageDraw.Draw(stroke).rectangle((left + 20, top + 20, right - 20, bottom - 20), fill=255)
        assert overlap(segmenter.mask(image, Seed(subject=stroke)).mask, wanted) > 0.7


def test_a_network_of_one_output_is_read_as_subject_or_not(tmp_path: Path) -> None:
    saved(tmp_path / "one", segformer_of(["subject"]), transformers.SegformerImageProcessor(size={"height": 64, "width": 64}))
    segmenter = load_labelled(tmp_path / "one", CPU)
    torch.nn.init.zeros_(segmenter.model.decode_head.classifier.weight)
    for bias, word in ((4.0, "told apart"), (-4.0, "No subject")):
        torch.nn.init.constant_(segmenter.model.decode_head.classifier.bias, bias)
        assert word in segmenter.mask(scene()[0], Seed()).problem


def test_the_same_question_gives_the_same_mask_and_another_point_another(shelf: Paths) -> None:
    for name in ("sam", "sam2"):
        segmenter = load_prompted(shelf.models / "segmentation" / name, CPU)
        assert isinstance(segmenter, Prompted)
        masks = [segmenter.mask(scene()[0], Seed(point=point)).mask.tobytes() for point in ((0.3, 0.5), (0.3, 0.5), (0.9, 0.1))]
        assert masks[0] == masks[1] != masks[2]


def test_clipseg_wants_words(shelf: Paths) -> None:
    segmenter = load_worded(shelf.models / "segmentation" / "clipseg", CPU)
    assert isinstance(segmenter, Worded)
    with pytest.raises(InputError, match="words"):
        segmenter.mask(scene()[0], Seed())
    assert segmenter.mask(scene()[0], Seed(words="dog " * 200)).mask.size == (160, 120), "too many words are cut off"


def test_points_and_boxes_come_from_what_is_known() -> None:
    image, truth = scene()
    points, labels, box = prompts(image, Seed())
    left, top, right, bottom = truth.getbbox()
    assert labels == [1] and truth.getpixel(tuple(int(v) for v in points[0])) == 255
    assert np.allclose(box, (left, top, right, bottom), atol=3), "without a hint the classical cut asks"
    points, labels, box = prompts(image, Seed(point=(0.25, 0.5), box=(-1, 0, 0.5, 2)))
    assert (points, labels, box) == ([[40, 60]], [1], [0, 0, 80, 120])
    points, labels, box = prompts(image, Seed(subject=truth, background=Image.eval(truth, lambda v: 255 - v)))
    assert box is None and set(labels) == {0, 1} and len(points) <= 12
    assert all((truth.getpixel((int(x), int(y))) == 255) == (label == 1) for (x, y), label in zip(points, labels, strict=True))
    points, labels, box = prompts(image, Seed(faces=((0.4, 0.1, 0.6, 0.3),)))
    assert labels == [1, 1] and np.allclose(points, [[80, 24], [80, 60]])
    assert prompts(Image.new("RGB", (1, 1)), Seed(point=(9, 9)))[0] == [[0, 0]]


def test_parts_are_chosen_by_where_they_lie_and_a_background_never() -> None:
    where = np.zeros((10, 10), bool)
    where[2:8, 2:8] = True
    rest, middle, corner = (~where).astype(float), where.astype(float), np.zeros((10, 10))
    corner[:2, :2] = 1
    parts = np.stack([rest, middle, corner])
    assert chosen(parts, ["wall", "person", "cup"], where).tolist() == [False, True, False]
    assert chosen(parts, ["person", "background", "cup"], where).tolist() == [True, False, False], "the next best when it is the background"
    assert chosen(parts[:1], ["background"], where).tolist() == [True], "the only one there is"
    assert reference(Image.new("RGB", (40, 40), "red"), Seed()).any(), "a picture of one colour still has a middle"


@pytest.mark.parametrize("kind", ["missing", "damaged", "another", "emptied", "unfit", "no processor"])
def test_a_folder_that_cannot_be_used_is_told_in_words(shelf: Paths, tmp_path: Path, kind: str) -> None:
    source, folder = shelf.models / "segmentation" / "segformer", tmp_path / "net"
    folder.mkdir()
    for file in source.iterdir():
        if not (kind == "missing" and file.suffix == ".safetensors") and not (kind == "no processor" and file.name == "preprocessor_config.json"):
            (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    weights = folder / "model.safetensors"
    if kind == "damaged":
        weights.write_bytes(weights.read_bytes()[:1000])
    if kind == "another":
        (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    if kind == "emptied":
        from safetensors.torch import load_file, save_file

        kept = load_file(weights)
        save_file({name: value for name, value in kept.items() if "decode_head" not in name}, weights, metadata={"format": "pt"})
    if kind == "unfit":
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "no-such-network"}))
    with pytest.raises(Unreadable, match="net") as told:
        load_labelled(folder, CPU)
    assert "Traceback" not in str(told.value) and "\n" not in str(told.value)
    if kind == "another":
        assert "bert" in str(told.value)
    if kind == "emptied":
        assert "lacks weights" in str(told.value)


def test_a_config_that_is_no_json_is_found_and_told(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    folder = paths.models / "segmentation" / "broken"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{")
    assert find_labelled(paths) == folder
    with pytest.raises(Unreadable, match="broken"):
        load_labelled(folder, CPU)


def test_what_is_loaded_is_a_network_that_can_be_lent(shelf: Paths) -> None:
    segmenter = load_labelled(shelf.models / "segmentation" / "segformer", CPU)
    assert isinstance(segmenter, Labelled) and not segmenter.model.training
    assert next(segmenter.model.parameters()).dtype == torch.float32
    assert isinstance(choose("GrabCut", shelf)[0].load(Path(), CPU), Classical)
