"""Infotext to request and back: texts as A1111 writes them, every field that its form can carry, and texts by other hands."""

import functools
import re
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.config import controls
from studio.pasting import VERSION, facts_of, lookup_in, parameters, read_hashes, read_infotext, request_values, sampler_of, write_hashes, write_infotext
from studio.pasting.facts import LAST, ORDER
from studio.requests.generate import GenerateRequest, Sampler, Schedule
from studio.wording import localized

TXT2IMG = (
    "masterpiece, (monster:1.2), <lora:inky:0.8> hero\nNegative prompt: lowres, bad anatomy\n"
    "Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 2688488731, Size: 512x768, Model hash: cc6cb27103, Model: v1-5-pruned, VAE hash: 735e4c3a44, "
    "VAE: vae-ft-mse-840000-ema-pruned.safetensors, Variation seed: 77, Variation seed strength: 0.25, Seed resize from: 448x704, "
    'Clip skip: 2, ENSD: 31337, RNG: CPU, Tiling: True, Eta: 0.67, Emphasis: No norm, TI hashes: "hero: 0123456789ab", '
    'Lora hashes: "inky: abcdef012345", Version: v1.10.1'
)
HIRES = (
    "a castle, evening\nNegative prompt: blurry\n"
    "Steps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 1, Size: 512x512, Model hash: cc6cb27103, Model: v1-5-pruned, Denoising strength: 0.55, RNG: NV, "
    "Hires upscale: 1.5, Hires steps: 12, Hires upscaler: R-ESRGAN 4x+, Hires sampler: DPM++ 2M, "
    'Hires schedule type: Karras, Hires prompt: "a castle, night: dark\\nsecond \\"line\\"", Hires negative prompt: fog, Version: v1.10.1'
)
INPAINT = (
    "a red hat\n"
    "Steps: 30, Sampler: DDIM, Schedule type: Automatic, CFG scale: 9, Seed: 5, Size: 640x512, "
    "Model hash: c6bbc15e32, Model: sd-v1-5-inpainting, Denoising strength: 0.9, Conditional mask weight: 0.5, "
    "Mask mode: Inpaint not masked, Mask blur: 8, Inpaint area: Only masked, Masked area padding: 64, Masked content: latent noise, "
    "Soft inpainting enabled: True, Soft inpainting schedule bias: 1.5, Soft inpainting preservation strength: 0.25, Soft inpainting transition contrast boost: 6, "
    "Soft inpainting mask influence: 0.1, Soft inpainting difference threshold: 1, Soft inpainting difference contrast: 3, Version: v1.10.1"
)
IMG2IMG = "a boat\nSteps: 20, Sampler: UniPC, Schedule type: Automatic, CFG scale: 7, Seed: 9, Size: 512x512, Model: m, Denoising strength: 0.4, RNG: NV, Version: v1.10.1"
OLD = "a boat\nSteps: 20, Sampler: DPM++ SDE Karras, CFG scale: 7, Seed: 9, Size: 512x512, Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, Version: v1.5.1"


def of(text: str) -> dict[str, Any]:
    """The values of a text whose every word is understood."""
    values, notes = request_values(text, lookup_in(["v1-5-pruned.safetensors", "m.ckpt", "sd-v1-5-inpainting.ckpt", "v1-5-pruned-emaonly.safetensors"]))
    assert notes == []
    return values


def subset(values: dict[str, Any], **wanted: Any) -> None:
    """Assert that these values are among them."""
    assert {field: values[field] for field in wanted} == wanted


def test_txt2img_of_a1111() -> None:
    values = of(TXT2IMG)
    subset(values, prompt="masterpiece, (monster:1.2), <lora:inky:0.8> hero", negative_prompt="lowres, bad anatomy", steps=28, sampler="DPM++ 2M", scheduler="Karras", cfg_scale=7.5)
    subset(values, seed=2688488731, width=512, height=768, checkpoint="v1-5-pruned.safetensors", vae="vae-ft-mse-840000-ema-pruned.safetensors", variation_seed=77, variation_strength=0.25)
    subset(values, seed_width=448, seed_height=704, clip_skip=2, ensd=31337, noise_source="CPU", tiling=True, eta=0.67, emphasis="No norm", hires=False)


def test_hires_of_a1111() -> None:
    values = of(HIRES)
    subset(values, hires=True, hires_scale=1.5, hires_steps=12, hires_upscaler="R-ESRGAN 4x+", hires_sampler="DPM++ 2M", hires_scheduler="Karras", hires_denoising_strength=0.55)
    subset(values, hires_prompt='a castle, night: dark\nsecond "line"', hires_negative_prompt="fog", width=512, height=512, sampler="Euler a", scheduler="Automatic", noise_source="NV")


def test_inpainting_of_a1111() -> None:
    values = of(INPAINT)
    subset(values, denoising_strength=0.9, mask_mode="Inpaint not masked", mask_blur=8, inpaint_area="Only masked", padding=64, masked_content="latent noise", inpainting_mask_weight=0.5)
    subset(values, soft_inpainting=True, soft_schedule_bias=1.5, soft_preservation=0.25, soft_contrast=6, soft_mask_influence=0.1, soft_difference_threshold=1, soft_difference_contrast=3)


def test_img2img_of_a1111() -> None:
    subset(of(IMG2IMG), denoising_strength=0.4, hires=False, sampler="UniPC", checkpoint="m.ckpt", mask_mode="Inpaint masked", masked_content="original", padding=32)


def test_a_name_of_old_is_a_sampler_and_a_schedule() -> None:
    subset(of(OLD), sampler="DPM++ SDE", scheduler="Karras", noise_source="NV", clip_skip=1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DPM++ 2M Karras", ("DPM++ 2M", "Karras")),
        ("DPM++ 2M SDE Heun Exponential", ("DPM++ 2M SDE Heun", "Exponential")),
        ("DPM2 a Karras", ("DPM2 a", "Karras")),
        ("LMS Karras", ("LMS", "Karras")),
        ("Euler SGM Uniform", ("Euler", "SGM Uniform")),
        ("euler A", ("Euler a", None)),
        ("DDIM", ("DDIM", None)),
        ("DDIM CFG++", ("DDIM CFG++", None)),
        ("k_dpmpp_2m_ka", ("DPM++ 2M", "Karras")),
        ("k_euler_a", ("Euler a", None)),
        ("magic", (None, None)),
        ("magic Karras", (None, "Karras")),
        ("Karras", (None, None)),
        ("", (None, None)),
    ],
)
def test_sampler_names(name: str, expected: tuple[str | None, str | None]) -> None:
    assert sampler_of(name) == expected


@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_every_sampler_is_known_alone_and_with_every_schedule(sampler: str) -> None:
    assert sampler_of(sampler) == (sampler, None)
    for schedule in get_args(Schedule):
        assert sampler_of(f"{sampler} {schedule}") == (sampler, schedule)


def test_before_1_9_a_plain_sampler_meant_the_checkpoints_own_schedule() -> None:
    text = "p\nSteps: 20, Sampler: DPM++ 2M, CFG scale: 7, Seed: 1, Size: 512x512{}"
    values, notes = request_values(text.format(", Version: v1.6.0"))
    assert values["scheduler"] == "Uniform"
    assert "v1.6.0" in notes[0]
    for version in ("", ", Version: v1.9.0", ", Version: v1.10.1", ", Version: f2.0.1v1.10.1-previous-1"):
        assert request_values(text.format(version)) == (request_values(text.format(""))[0], [])
    assert request_values(text.format(", Version: v1.6.0").replace("DPM++ 2M", "Euler"))[0]["scheduler"] == "Automatic"


def test_hires_fix_from_before_it_had_a_scale() -> None:
    text = "p\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 1024x768, Denoising strength: 0.7, First pass size: {}"
    subset(of(text.format("512x384")), hires=True, width=512, height=384, hires_width=1024, hires_height=768, hires_denoising_strength=0.7)
    subset(of(text.format("0x0")), hires=True, width=640, height=448, hires_width=1024, hires_height=768)


def test_a_hypernetwork_of_old_comes_into_the_prompt() -> None:
    text = "p\nSteps: 20, Sampler: Euler a, Seed: 1, Hypernet: ink(12ab34cd), Hypernet strength: 0.6"
    assert of(text)["prompt"] == "p<hypernet:ink(12ab34cd):0.6>"


def test_a_text_without_facts_gives_prompts_only() -> None:
    assert request_values("just a prompt, with commas") == ({"prompt": "just a prompt, with commas", "negative_prompt": ""}, [])
    assert request_values("") == ({"prompt": "", "negative_prompt": ""}, [])


@pytest.mark.parametrize("prompt", ["a, (eyes:1.2), (hair:1.3), (sky:0.8)", "eyes: blue, hair: red, sky: grey", "p\nSteps: 20"])
def test_a_last_line_that_only_looks_like_facts_is_a_prompt(prompt: str) -> None:
    assert read_infotext(prompt) == {"Prompt": prompt, "Negative prompt": ""}
    assert read_infotext(write_infotext(prompt, "", facts_of(GenerateRequest())))["Prompt"] == prompt


def test_a_prompt_that_ends_in_facts_of_its_own() -> None:
    prompt = "p\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 3, Size: 64x64"
    values, _ = request_values(write_infotext(prompt, "n", facts_of(GenerateRequest(steps=9))))
    subset(values, prompt=prompt, negative_prompt="n", steps=9)


@pytest.mark.parametrize(
    ("pair", "field", "value"),
    [
        ("Steps: 1000", "steps", 150),
        ("Steps: 0", "steps", 1),
        ("Steps: 20.6", "steps", 21),
        ("Steps: many", "steps", None),
        ("Steps: ", "steps", None),
        ("CFG scale: nan", "cfg_scale", None),
        ("CFG scale: inf", "cfg_scale", 30.0),
        ("CFG scale: 1e309", "cfg_scale", 30.0),
        ("CFG scale: -3", "cfg_scale", 0.0),
        ("Seed: 99999999999999999999999999", "seed", 2**32 - 1),
        ("Seed: -5", "seed", -1),
        ("Size: 513x100000", "width", 512),
        ("Size: 513x100000", "height", 2048),
        ("Size: 0x0", "width", 0),
        ("Size: big", "width", None),
        ("Size: 12x", "width", None),
        ("Clip skip: 99", "clip_skip", 12),
        ("Sampler: magic", "sampler", None),
        ("Schedule type: magic", "scheduler", "Automatic"),
        ("RNG: dice", "noise_source", "NV"),
        ("Emphasis: None", "emphasis", "Original"),
        ("Variation seed strength: 2", "variation_strength", 1.0),
        ("Sigma tmax: inf", "s_tmax", 0.0),
        ("Denoising strength: 1.5", "denoising_strength", 1.0),
    ],
)
def test_a_value_that_cannot_be_is_moved_or_left_out_and_told(pair: str, field: str, value: object) -> None:
    key = pair.partition(":")[0]
    base = {"Steps": "20", "Sampler": "Euler", "Model": "m", "Version": "v1.10.1"}
    text = "p\n" + ", ".join(f"{k}: {v}" for k, v in base.items() if k != key) + ", " + pair
    values, notes = request_values(text)
    assert values.get(field) == value
    quiet = pair in ("Sigma tmax: inf", "Size: 0x0")
    assert quiet or any(note.startswith(f"{key}: ") and note.endswith(".") for note in notes)
    GenerateRequest.check(values)


def test_what_the_studio_cannot_do_is_told_by_name() -> None:
    _, notes = request_values("p\nSteps: 20, Sampler: Euler, Seed: 1, Refiner: sdxl-refiner [7440042bbd], Refiner switch at: 0.8, Token merging ratio: 0.5, Foo: bar")
    assert [note.partition(":")[0] for note in notes] == ["Refiner", "Refiner switch at", "Token merging ratio", "Foo"]


def test_what_only_tells_about_a_picture_is_passed_over() -> None:
    text = 'p\nSteps: 20, Sampler: Euler, Seed: 1, Batch size: 4, Batch pos: 2, Script: X/Y/Z plot, X Type: Steps, X Values: "1, 2", '
    text += 'Fixed X Values: "1, 2", User: ann, TI hashes: "a: 1, b: 2", Version: v1.10.1'
    assert request_values(text)[1] == []


def test_what_sharing_sites_add_is_passed_over() -> None:
    resources = 'Hashes: {"model": "6ce0161689", "lora:ink": "abcdef"}, Civitai resources: [{"type":"checkpoint","modelVersionId":1, "weight": 0.8}], Created Date: 2024-09-01T10:00:00.0Z'
    values, notes = request_values(f"p\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 512x512, Clip skip: 2, {resources}")
    subset(values, prompt="p", steps=20, clip_skip=2)
    assert notes == []


def test_checkpoints_are_found_by_hash_then_by_name() -> None:
    find = lookup_in(["a/real-v2.safetensors", "tiny-world", "anything.ckpt"], {"anything.ckpt": "cc6cb27103417325ff94f52b7a5d2dde45a7515b25c255d8e396c90014281516"})
    assert find("renamed", "cc6cb27103") == "anything.ckpt"
    assert find("real-v2", "") == "a/real-v2.safetensors"
    assert find("REAL-V2.safetensors", "0123456789") == "a/real-v2.safetensors"
    assert find("tiny-world", "") == "tiny-world"
    assert find("anyth", "") == "anything.ckpt"
    assert (find("", ""), find("other", "0123456789"), find("", "cc")) == (None, None, None)
    values, notes = request_values(IMG2IMG.replace("Model: m,", "Model: gone, VAE: lost.pt,"), find, find)
    assert "checkpoint" not in values
    assert "vae" not in values
    assert [note.partition(" is not here")[0] for note in notes] == ["Model: 'gone'", "VAE: 'lost.pt'"]


def test_parameters_as_a1111s_own_reader_gives_them() -> None:
    found = parameters(OLD)
    assert (found["Size-1"], found["Size-2"], found["Clip skip"], found["RNG"], found["Schedule type"], found["Masked area padding"]) == ("512", "512", "1", "GPU", "Automatic", "32")
    assert "Size" not in found
    assert parameters(TXT2IMG)["Clip skip"] == "2"


def test_hashes() -> None:
    text = write_hashes({"hero": "0123456789abcdef", "two, parts:x": "f" * 64})
    assert text == f"hero: 0123456789ab, two partsx: {'f' * 12}"
    assert read_hashes(text) == {"hero": "0123456789ab", "two partsx": "f" * 12}
    assert read_hashes("nonsense, : x, a:") == {"a": ""}


def test_our_own_text_is_in_a1111s_form_to_the_letter() -> None:
    request = GenerateRequest(prompt="a castle", negative_prompt="fog", seed=7, width=512, height=768, cfg_scale=7.0, clip_skip=2, hires=True, hires_prompt="a castle, night")
    more = {"Model": "v1-5", "Model hash": "cc6cb27103", "Lora hashes": write_hashes({"a": "1" * 64}), "Version": "v0"}
    assert write_infotext(request.prompt, request.negative_prompt, facts_of(request, more)) == (
        "a castle\nNegative prompt: fog\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Automatic, CFG scale: 7, Seed: 7, Size: 512x768, Model hash: cc6cb27103, Model: v1-5, "
        'Denoising strength: 0.7, Clip skip: 2, RNG: CPU, Hires upscale: 2, Hires upscaler: Latent, Hires prompt: "a castle, night", Lora hashes: "a: 111111111111", Version: v0'
    )


def test_a_text_read_and_written_again_is_the_same_text() -> None:
    for text in (TXT2IMG, HIRES, INPAINT, IMG2IMG):
        found = read_infotext(text)
        given = {key: found[key] for key in ("Model hash", "Model", "VAE hash", "VAE", "TI hashes", "Lora hashes", "Version") if key in found}
        pictures = {"init_image": "i.png"} if "boat" in text else {"init_image": "i.png", "mask": "m.png"} if "hat" in text else {}
        request = GenerateRequest.check({**of(text), **pictures})
        more = {**given, "RNG": None} if "RNG" not in found else given
        assert write_infotext(request.prompt, request.negative_prompt, facts_of(request, more)) == text


def test_keys_are_in_order_and_unknown_ones_come_before_the_last() -> None:
    request = GenerateRequest(init_image="i", mask="m", soft_inpainting=True, inpaint_area="Only masked", resize_mode="Resize and fill", variation_strength=0.5, width=64, height=64)
    keys = list(facts_of(request, {"Own": 1, "User": "ann", "TI hashes": "x", "Script": "Prompt matrix", "Seed": None}))
    known = [key for key in keys if key in ORDER]
    assert known == sorted(known, key=ORDER.index)
    assert keys[-5:] == ["Resize mode", "Own", "Script", "Version", "User"]
    assert "Seed" not in keys
    assert not VERSION[:2].strip("v").isdigit()  # A1111 would switch to the behaviour of that release
    assert len({*ORDER, *LAST}) == len(ORDER) + len(LAST)


UNCARRIED = {"styles", "checkpoint", "batch_count", "batch_size", "preview_every", "init_image", "mask", "sketch", "background_color"}
"""Fields that no infotext carries: files, how many, what is behind transparency, how often a preview is shown; words of styles are in the prompt already."""
HIRES_ONLY = {knob.name for knob in controls(GenerateRequest) if knob.name.startswith("hires_")}
REPAINT_ONLY = {"resize_mode", "color_correction", "denoising_strength"}
MASK_ONLY = {"mask_blur", "mask_mode", "masked_content", "inpaint_area", "padding", "inpainting_mask_weight", "soft_inpainting"}
SOFT_ONLY = {"soft_schedule_bias", "soft_preservation", "soft_contrast", "soft_mask_influence", "soft_difference_threshold", "soft_difference_contrast"}
WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('\n",:\\()[]<>|'), max_size=60).map(str.strip).filter(lambda s: "Negative prompt:" not in s)
SIDE = st.integers(8, 256).map(lambda n: n * 8)


@functools.cache
def strategy(name: str) -> st.SearchStrategy[Any]:
    """Any value of a field."""
    knob = next(k for k in controls(GenerateRequest) if k.name == name)
    if name in ("width", "height"):
        return SIDE
    if name.endswith(("_width", "_height")):
        return SIDE | st.just(0)
    if name in ("seed", "variation_seed"):
        return st.integers(0, 2**32 - 1)
    if name == "vae":
        return st.sampled_from(["Automatic", "ink, blue: 2.pt", "plain.safetensors"])
    if name == "hires_upscaler":
        return st.sampled_from(["Latent", "Latent (nearest-exact)", "4x-UltraSharp", "Lanczos"])
    if knob.kind == "choice":
        return st.sampled_from(knob.choices)
    if knob.kind == "flag":
        return st.booleans()
    if knob.kind == "integer":
        return st.integers(int(knob.minimum or 0), int(knob.maximum or 0))
    if knob.kind == "number":
        numbers = st.floats(knob.minimum, knob.maximum)
        return st.none() | numbers if name == "eta" else numbers
    return WORDS


@st.composite
def requests(draw: st.DrawFn) -> GenerateRequest:
    """Any request whose every field says something: the second pass's only with hires fix, the mask's only with a mask."""
    kind = draw(st.sampled_from(["txt2img", "hires", "img2img", "inpaint"]))
    values: dict[str, Any] = {"txt2img": {}, "hires": {"hires": True}, "img2img": {"init_image": "i"}, "inpaint": {"init_image": "i", "mask": "m"}}[kind]
    silent = UNCARRIED | {"hires"}
    silent |= set() if kind == "hires" else HIRES_ONLY
    silent |= set() if kind in ("img2img", "inpaint") else REPAINT_ONLY
    silent |= set() if kind == "inpaint" else MASK_ONLY | SOFT_ONLY
    values |= {name: draw(strategy(name)) for name in GenerateRequest.model_fields if name not in silent}
    drop: set[str] = set()
    drop |= set() if values.get("soft_inpainting") else SOFT_ONLY
    drop |= set() if values.get("inpaint_area") == "Only masked" else {"padding"}
    drop |= {"hires_scale"} if values.get("hires_width") or values.get("hires_height") else set()
    drop |= set() if values["variation_strength"] else {"variation_seed"}
    drop |= set() if values["seed_width"] and values["seed_height"] else {"seed_width", "seed_height"}
    return GenerateRequest(**{name: value for name, value in values.items() if name not in drop})


@settings(max_examples=400, deadline=None)
@given(requests())
def test_a_request_comes_back_whole(request: GenerateRequest) -> None:
    values, notes = request_values(write_infotext(request.prompt, request.negative_prompt, facts_of(request)))
    kept = {name: getattr(request, name) for name in UNCARRIED}
    assert GenerateRequest.check({**kept, **values}) == request
    assert notes == []


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=300)
    | st.lists(st.tuples(st.sampled_from([*ORDER, *LAST, "First pass size", "Hypernet"]), st.text(max_size=12)), max_size=12).map(lambda pairs: "p\n" + ", ".join(f"{k}: {v}" for k, v in pairs))
)
def test_no_text_is_too_strange(text: str) -> None:
    values, notes = request_values(text, lookup_in(["m"]), lookup_in([]))
    assert all(isinstance(note, str) and note for note in notes)
    GenerateRequest.check(values)


@pytest.mark.parametrize("piece", ["a", " ", "a ", ", ", "ab: ", 'ab: "', ',ab: "\\"', ',"', "x: 1, Steps: 2, ", "\n", "Negative prompt:", "\\"])
def test_a_text_of_a_million_characters_is_read(piece: str) -> None:
    values, _ = request_values(piece * (10**6 // len(piece)))
    GenerateRequest.check(values)


FULL = write_infotext(
    "a castle, (red:1.2)\nsecond line",
    "blurry\nugly: very",
    facts_of(
        GenerateRequest(
            steps=28, sampler="DPM++ 2M SDE", scheduler="Karras", seed=7, width=512, height=768, clip_skip=2, hires=True, hires_prompt='a castle, "old": tall', hires_upscaler="Latent (nearest)"
        ),
        {"Model": "v1 5, pruned", "Model hash": "cc6cb27103", "Lora hashes": "ink: 1234, sea: 5678", "Image CFG scale": 1.5, "Version": "v1.10.1"},
    ),
)
"""An infotext with values in quotes, keys of several words, and a key that ends in another."""
HEAD, _, TAIL = FULL.rpartition("\nSteps: ")


@given(st.data())
def test_facts_are_read_however_their_lines_are_broken(data: st.DataObject) -> None:
    """Spaces of the facts become line ends or grow them, as a chat window or a text editor does; line ends are of any system; blank lines follow."""
    words = ("Steps: " + TAIL).split(" ")
    gaps = data.draw(st.lists(st.sampled_from((" ", " ", "\n", " \n", "\n  ", "\n\n")), min_size=len(words) - 1, max_size=len(words) - 1))
    inside = False
    facts = words[0]
    for gap, word in zip(gaps, words[1:], strict=True):
        inside ^= facts.rpartition(" ")[2].count('"') % 2 == 1
        facts += (" " if gap in ("\n\n", " \n", "\n  ") and inside else gap) + word
    end = data.draw(st.sampled_from(("\n", "\r\n", "\r")))
    text = (HEAD + "\n" * data.draw(st.integers(1, 3)) + facts + "\n" * data.draw(st.integers(0, 3))).replace("\n", end)
    assert read_infotext(text) == read_infotext(FULL)


@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n", "\n \n\t"])
@pytest.mark.parametrize("after", ["", "Upscaled by me", "-- sent from my phone, sorry", "https://example.org/i/123"])
def test_lines_after_the_facts_do_not_make_them_a_prompt(end: str, after: str) -> None:
    assert read_infotext(f"{FULL}\n{after}{end}") == read_infotext(FULL)


def test_a_line_of_further_facts_is_read_too() -> None:
    found = read_infotext(f"{FULL}\nTemplate: a {{red|blue}} castle\nControlNet 0: canny")
    assert found["Template"] == "a {red|blue} castle"
    assert found["ControlNet 0"] == "canny"
    assert found["Negative prompt"] == "blurry\nugly: very"


def test_facts_on_lines_of_their_own() -> None:
    found = read_infotext("a castle\nNegative prompt: blurry\nSteps: 28\nSampler: Euler a\nCFG scale: 7\nSeed: 5\nSize: 512x512\nModel: sea shore")
    assert (found["Negative prompt"], found["Steps"], found["Seed"], found["Model"]) == ("blurry", "28", "5", "sea shore")


@pytest.mark.parametrize(
    ("prompt", "facts", "old"),
    [
        ("[a:b:0.5]", "Version: v1.5.2", True),
        ("[a:b:0.5]", "Version: v1.6.0", False),
        ("[a:b:0.5]", "Old prompt editing timelines: True, Version: v1.9.4", True),
        ("[a:b:0.5]", "", False),
        ("a", "Version: v1.5.2", False),
    ],
)
def test_pictures_from_before_1_6_bring_the_old_timelines_of_prompt_editing(prompt: str, facts: str, old: bool) -> None:
    values, notes = request_values(f"{prompt}\nSteps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 1, Size: 512x512{facts and f', {facts}'}")
    assert values["old_prompt_editing"] is old and notes == []
    assert facts_of(GenerateRequest(prompt=prompt, old_prompt_editing=old)).get("Old prompt editing timelines", False) is old


def test_text_after_the_facts_is_told_and_every_note_has_its_chinese() -> None:
    text = "a cat\nNegative prompt: dog\nSteps: many, Sampler: Nix, Size: 1x512, CFG scale: 900, Seed: 5, Model: gone, Dance: polka\n\nmy own words\nof two lines"
    found, notes = request_values(text, lambda name, digest: None)
    assert (found["prompt"], found["negative_prompt"]) == ("a cat", "dog")
    assert notes[-1] == "The text after the settings was left out: 'my own words\\nof two lines'."
    assert len(notes) == 7
    assert [note for note in notes if re.search(r"[a-z]{3,} [a-z]{2,} [a-z]{2,}", re.sub(r"'[^']*'", "", localized("zh", note)))] == []
    assert request_values(text.partition("\n\n")[0])[1][-1] != notes[-1]
