"""X/Y/Z plot, prompt matrix and prompts from file, written out: values, ranges, labels and mistakes."""

import itertools
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.config import controls
from studio.errors import InputError
from studio.requests import kind_of, request_of
from studio.requests.axes import AXES, LIMIT, AxisName, axis_of, joined, read_values
from studio.requests.generate import GenerateRequest
from studio.requests.scripts import Label, PlotRequest, PromptMatrixRequest, PromptsFromFileRequest, cells, settled, sheet_of


def plot(x: tuple[str, str], y: tuple[str, str] = ("Nothing", ""), z: tuple[str, str] = ("Nothing", ""), **base: Any) -> PlotRequest:
    """A plot over a base."""
    values = {"x_axis": x[0], "x_values": x[1], "y_axis": y[0], "y_values": y[1], "z_axis": z[0], "z_values": z[1]}
    return PlotRequest.check({"base": {"prompt": "a red monster", "negative_prompt": "blurry", **base}, **values})  # type: ignore[return-value]


def lines(text: str, base: dict[str, Any] | None = None, **values: Any) -> tuple[GenerateRequest, ...]:
    """What the lines of a file ask for."""
    return cells(PromptsFromFileRequest.check({"base": base or {}, "text": text, **values}))  # type: ignore[arg-type]


@pytest.mark.parametrize("cls", [PlotRequest, PromptMatrixRequest, PromptsFromFileRequest])
def test_every_knob_has_its_sentence(cls: type) -> None:
    assert [knob.name for knob in controls(cls) if not knob.help.endswith(".")] == []


def test_every_name_has_its_axis() -> None:
    assert sorted(axis.name for axis in AXES) == sorted(get_args(AxisName))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1, 2, 3", [1, 2, 3]),
        ("1,2,,3,", [1, 2, 3]),
        ("1-5", [1, 2, 3, 4, 5]),
        ("1 - 5 (+2)", [1, 3, 5]),
        ("1-6 (+2)", [1, 3, 5]),
        ("10-1 (-3)", [10, 7, 4, 1]),
        ("5-1", [5, 4, 3, 2, 1]),
        ("1-10 [5]", [1, 3, 5, 7, 10]),
        ("7-9 [1]", [7]),
        ("-3--1", [-3, -2, -1]),
        ("-1", [-1]),
        ("1-3, 10, 20-30 (+5)", [1, 2, 3, 10, 20, 25, 30]),
        ("1\n2\n3", [1, 2, 3]),
    ],
)
def test_whole_numbers(text: str, values: list[int]) -> None:
    read = read_values(axis_of("Seed"), text)
    assert read == values
    assert all(isinstance(value, int) for value in read)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1, 2.5", [1, 2.5]),
        ("0.5-1.0 (+0.25)", [0.5, 0.75, 1.0]),
        ("0-0.3 (+0.1)", [0, 0.1, 0.2, 0.3]),
        ("0-1 [5]", [0, 0.25, 0.5, 0.75, 1]),
        ("3-5", [3, 4, 5]),
        ("1-0 (-0.5)", [1, 0.5, 0]),
        ("1e-3", [0.001]),
    ],
)
def test_numbers(text: str, values: list[float]) -> None:
    assert read_values(axis_of("CFG Scale"), text) == values


@pytest.mark.parametrize("text", ["", " , ,", "a", "1.5", "1-", "1-5 (+0)", "1-5 (-1)", "5-1 (+1)", "1-10 [0]", "1-100000000000", "1-5 [100000000]", "1--", "nan", "inf", "1-5 (+2", "1;2", "9" * 400])
def test_whole_numbers_that_cannot_be(text: str) -> None:
    with pytest.raises(InputError, match="X type Steps: "):
        plot(("Steps", text))


def test_words_are_csv() -> None:
    assert read_values(axis_of("Prompt S/R"), 'cat, "cat, sleeping", dog ,"say ""x"""') == ["cat", "cat, sleeping", "dog", 'say "x"']
    assert len(read_values(axis_of("Prompt order"), "a, b, c")) == 6


def test_values_are_written_as_they_are_read() -> None:
    values = ["cat", "cat, sleeping", "", 'say "x"', "dog"]
    assert read_values(axis_of("Prompt S/R"), joined(values)) == values


def test_cells_stand_in_reading_order_with_their_words() -> None:
    sheet = sheet_of(plot(("Steps", "10, 20"), ("CFG Scale", "5, 7.5"), ("Sampler", "Euler a, DPM++ 2M Karras")))
    assert [(c.column, c.row, c.layer) for c in sheet.cells] == [(x, y, z) for z, y, x in itertools.product((0, 1), repeat=3)]
    assert [(c.request.steps, c.request.cfg_scale, c.request.sampler, c.request.scheduler) for c in sheet.cells] == [
        *((s, g, "Euler a", "Automatic") for g in (5, 7.5) for s in (10, 20)),
        *((s, g, "DPM++ 2M", "Karras") for g in (5, 7.5) for s in (10, 20)),
    ]
    assert sheet.columns == ((Label("Steps: 10"),), (Label("Steps: 20"),))
    assert sheet.rows == ((Label("CFG Scale: 5"),), (Label("CFG Scale: 7.5"),))
    assert sheet.layers == ((Label("Sampler: Euler a"),), (Label("Sampler: DPM++ 2M Karras"),))
    assert sheet.facts == {"Script": "X/Y/Z plot", "X Type": "Steps", "X Values": "10, 20", "Y Type": "CFG Scale", "Y Values": "5, 7.5", "Z Type": "Sampler", "Z Values": "Euler a, DPM++ 2M Karras"}


@pytest.mark.parametrize(
    ("axis", "text", "field", "values"),
    [
        ("Seed", "3-4", "seed", [3, 4]),
        ("Var. strength", "0, 0.5", "variation_strength", [0, 0.5]),
        ("Schedule type", "karras, SGM Uniform", "scheduler", ["Karras", "SGM Uniform"]),
        ("Checkpoint name", "a.safetensors, b", "checkpoint", ["a.safetensors", "b"]),
        ("VAE", "None, x.pt", "vae", ["None", "x.pt"]),
        ("Clip skip", "1-2", "clip_skip", [1, 2]),
        ("Denoising", "0.2, 0.4", "denoising_strength", [0.2, 0.4]),
        ("Sigma Churn", "1, 2", "s_churn", [1, 2]),
        ("Eta", "0, 1", "eta", [0, 1]),
        ("Styles", "ink", "styles", [("ink",)]),
        ("Emphasis", "ignore", "emphasis", ["Ignore"]),
        ("RNG source", "cpu, nv", "noise_source", ["CPU", "NV"]),
        ("Size", "512x768, 64×64", "height", [768, 64]),
        ("Prompt S/R", "red, blue, 'x'", "prompt", ["a red monster", "a blue monster", "a 'x' monster"]),
        ("Prompt S/R", "red,", "prompt", ["a red monster", "a  monster"]),
        ("Prompt S/R", 'red , "", blue,\n', "prompt", ["a red monster", "a  monster", "a blue monster", "a  monster"]),
        ("Styles", "ink,", "styles", [("ink",), ()]),
        ("Sampler", "Euler, DPM2,", "sampler", ["Euler", "DPM2"]),
        ("Prompt S/R", "blurry, dark", "negative_prompt", ["blurry", "dark"]),
        ("Prompt order", "a, red", "prompt", ["a red monster", "red a monster"]),
    ],
)
def test_what_an_axis_does(axis: str, text: str, field: str, values: list[Any]) -> None:
    assert [getattr(cell, field) for cell in cells(plot((axis, text)))] == values


def test_denoising_is_the_second_passs_with_hires_fix() -> None:
    assert [c.hires_denoising_strength for c in cells(plot(("Denoising", "0.2, 0.4"), hires=True))] == [0.2, 0.4]


def test_lora_strength() -> None:
    prompt = "x <lora:ink> <lora:pen:0.7:0.2:lbw=1,0,1> <lora:dot:te=1:unet=0.5:dyn=4> <hypernet:h:1>"
    (cell,) = cells(plot(("LoRA strength", "0.25"), prompt=prompt))
    assert cell.prompt == "x <lora:ink:0.25> <lora:pen:0.25:lbw=1,0,1> <lora:dot:0.25:dyn=4> <hypernet:h:1>"
    with pytest.raises(InputError, match="names no LoRA"):
        plot(("LoRA strength", "0.25"))


def test_one_axis_may_bring_in_what_another_seeks() -> None:
    found = cells(plot(("Prompt S/R", "red, green"), ("Prompt S/R", "monster, dog"), ("Prompt S/R", "blurry, green dog")))
    assert [c.prompt for c in found][:4] == ["a red monster", "a green monster", "a red dog", "a green dog"]
    with pytest.raises(InputError, match="'red' is in neither prompt"):  # A1111 ends such a plot in the same words
        plot(("Prompt S/R", "red, blue"), ("Prompt S/R", "red, green"))
    (cell,) = cells(plot(("Prompt S/R", "monster"), ("Prompt S/R", "red monster")))
    assert cell.prompt == "a red monster"


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        plot(("Sampler", "Euler, magic, more magic"), ("Steps", "0, 10, 999"), ("Schedule type", ""))
    for word in ("'magic'", "'more magic'", "X type Sampler", "Y type Steps", "got 0", "got 999", "Z type Schedule type: there are no values"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ((("Prompt S/R", "unicorn, dog"),), "'unicorn' is in neither prompt"),
        ((("Prompt S/R", '"", dog'),), "the first value is empty"),
        ((("Prompt order", "red, unicorn"),), "'unicorn' is not in the prompt"),
        ((("Prompt order", "a red, red"),), "overlaps"),
        ((("Prompt order", "a,b,c,d,e,f,g,h,i,j"),), "orders"),
        ((("Steps", "1-100"), ("CFG Scale", "1-10")), "1000 pictures; at most 500"),
        ((("Steps", "1, 2"), ("Steps", "3, 4")), "Steps is on two axes"),
        ((("Size", "513x512"),), "multiple of 8"),
        ((("Size", "big"),), "such as 512x768"),
        ((("RNG source", "dice"),), "CPU, NV"),
        ((("CFG Scale", "nan"),), "finite"),
        ((("Seed", "-2"),), "Seed"),
    ],
)
def test_mistakes(request_: tuple[tuple[str, str], ...], told: str) -> None:
    with pytest.raises(InputError, match=told):
        plot(*request_)


def test_batches_count_too() -> None:
    with pytest.raises(InputError, match="800 pictures"):
        plot(("Steps", "1-50"), batch_count=4, batch_size=4)


def test_an_unknown_axis_is_said() -> None:
    with pytest.raises(InputError, match="X axis"):
        plot(("Colour", "red"))


def test_seeds_are_drawn_once() -> None:
    draws = iter(range(100, 200))
    request = settled(plot(("Seed", "-1, -1, 7"), ("Steps", "1, 2")), lambda: next(draws))
    assert [c.seed for c in cells(request)] == [100, 101, 7, 100, 101, 7]
    assert request.base.seed >= 100
    assert sheet_of(request).facts["Fixed X Values"] == "100, 101, 7"
    steps = settled(plot(("Steps", "1, 2")), lambda: 42)
    assert [c.seed for c in cells(steps)] == [42, 42]
    kept = plot(("Steps", "1, 2")).model_copy(update={"keep_random_seeds": True})
    assert [c.seed for c in cells(settled(kept, lambda: 42))] == [-1, -1]


def matrix(prompt: str, **values: Any) -> PromptMatrixRequest:
    """A prompt matrix."""
    return PromptMatrixRequest.check({"base": {"prompt": prompt, "seed": 5}, **values})  # type: ignore[return-value]


def test_a_prompt_matrix() -> None:
    sheet = sheet_of(matrix("a castle|at night| in snow ,|old"))
    assert [c.request.prompt for c in sheet.cells] == [
        "a castle",
        "a castle, at night",
        "a castle, in snow ",
        "a castle, at night, in snow ",
        "a castle, old",
        "a castle, at night, old",
        "a castle, in snow , old",
        "a castle, at night, in snow , old",
    ]
    assert [(c.column, c.row) for c in sheet.cells] == [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 1), (2, 1), (3, 1)]
    assert sheet.columns[1] == (Label("at night", True), Label("in snow ,", False))
    assert sheet.rows == ((Label("old", False),), (Label("old", True),))
    assert {c.request.seed for c in sheet.cells} == {5}


def test_knobs_of_the_prompt_matrix() -> None:
    assert [c.prompt for c in cells(matrix("a|b|c", put_at_start=True, delimiter="space"))] == ["a", "b a", "c a", "b c a"]
    assert [c.seed for c in cells(matrix("a|b|c", different_seeds=True))] == [5, 6, 7, 8]
    request = PromptMatrixRequest.check({"base": {"prompt": "p", "negative_prompt": "x|y"}, "prompt_type": "negative"})
    assert [(c.prompt, c.negative_prompt) for c in cells(request)] == [("p", "x"), ("p", "x, y")]  # type: ignore[arg-type]
    assert [c.seed for c in cells(settled(request, lambda: 9))] == [9, 9]  # type: ignore[arg-type]


def test_alternation_is_not_cut() -> None:
    assert [c.prompt for c in cells(matrix("a [cow|horse] here|at night"))] == ["a [cow|horse] here", "a [cow|horse] here, at night"]


@pytest.mark.parametrize(("prompt", "told"), [("a castle", "no parts"), ("", "no parts"), ("[a|b]", "no parts"), ("|".join("abcdefghijk"), "1024 pictures"), ("|" * 10_000, "at most 500")])
def test_a_prompt_matrix_that_cannot_be(prompt: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        matrix(prompt)


def test_prompts_from_a_file() -> None:
    found = lines(
        'a boat\n\n  a car -- red  \n--prompt "a tree" --steps 10 --sampler_name "DPM++ 2M Karras" --width 64 --height 128 --tiling true --seed 3 --n_iter 2\n--prompt two words --cfg_scale 7.5'
    )
    assert [c.prompt for c in found] == ["a boat", "a car -- red", "a tree", "two words"]
    tree = found[2]
    assert (tree.steps, tree.sampler, tree.scheduler, tree.width, tree.height, tree.tiling, tree.seed, tree.batch_count) == (10, "DPM++ 2M", "Karras", 64, 128, True, 3, 2)
    assert found[3].cfg_scale == 7.5
    assert found[0].steps == GenerateRequest().steps


def test_options_of_a1111_by_their_own_names() -> None:
    (cell,) = lines(
        '--prompt x --negative_prompt "y z" --subseed 4 --subseed_strength 0.5 --seed_resize_from_w 64 --seed_resize_from_h 128 --sd_model m.ckpt'
        ' --outpath_samples /a --do_not_save_grid true --styles "a, b" --restore_faces false'
    )
    assert (cell.negative_prompt, cell.variation_seed, cell.variation_strength, cell.seed_width, cell.seed_height) == ("y z", 4, 0.5, 64, 128)
    assert (cell.checkpoint, cell.styles) == ("m.ckpt", ("a", "b"))


def test_a_prompt_for_all_lines_comes_before_or_after() -> None:
    base = {"prompt": "oil painting", "negative_prompt": "blurry"}
    assert [c.prompt for c in lines("a boat\n--steps 5", base)] == ["a boat oil painting", "oil painting"]
    (cell,) = lines('--prompt "a boat" --negative_prompt dark', base, position="end")
    assert (cell.prompt, cell.negative_prompt) == ("oil painting a boat", "blurry dark")


def test_seeds_of_lines() -> None:
    assert [c.seed for c in lines("a\nb\nc", {"seed": 7, "batch_size": 2}, iterate_seed=True)] == [7, 9, 11]
    assert [c.seed for c in lines("a\nb", {"seed": 2**32 - 1}, iterate_seed=True)] == [2**32 - 1, 0]
    assert [c.seed for c in lines("a\n--prompt b --seed 1", {"seed": 7}, iterate_seed=True)] == [7, 1]
    request = PromptsFromFileRequest.check({"text": "a\nb", "same_seed": True})
    assert [c.seed for c in cells(settled(request, lambda: 9))] == [9, 9]  # type: ignore[arg-type]
    free = PromptsFromFileRequest.check({"text": "a\nb"})
    assert [c.seed for c in cells(settled(free, lambda: 9))] == [-1, -1]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no lines"),
        (" \n\t\n", "no lines"),
        ("a\n" * (LIMIT + 1), "at most 500"),
        ('a\n--prompt "open', "Line 2: .*close every quote"),
        ("--colour red", "Line 1: there is no option --colour"),
        ("--steps", "Line 1: '--steps' has no value"),
        ("--steps 10 20", "Line 1: --steps has 2 values"),
        ("--steps many", "Line 1: Steps: "),
        ("--steps 999", "Line 1: Steps: "),
        ("--sampler_name magic", "Line 1: there is no sampler 'magic'"),
        ("--init_image /etc/passwd", "no option --init_image"),
        ("--restore_faces true", "restores no faces"),
        ("--width 100000 --prompt x\n--height 7", "Line 1: Width.*Line 2: Height"),
        ("--batch_size 16 --n_iter 100", "1600 pictures"),
        ("--__class__ x", "no option"),
        ("\n".join(["--steps 0"] * 30), "20 more lines"),
    ],
)
def test_lines_that_cannot_be(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        lines(text)


@pytest.mark.parametrize("request_", [plot(("Steps", "1, 2")), matrix("a|b"), PromptsFromFileRequest(text="a\nb")])
def test_scripts_survive_the_database(request_: Any) -> None:
    assert request_of(kind_of(request_), request_.model_dump(mode="json")) == request_


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(get_args(AxisName)), st.text(st.sampled_from('0123456789-+.,()[] "x\nan') | st.characters(), max_size=40))
def test_no_values_are_too_strange(axis: str, text: str) -> None:
    try:
        made = cells(plot((axis, text)))
    except InputError as error:
        assert str(error).strip()
    else:
        assert 0 < len(made) <= LIMIT


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80) | st.lists(st.sampled_from(["--prompt", "--steps", "10", "--seed", "'", '"', "a b", "\n", "--", "\\", "--width", "-1"]), max_size=12).map(" ".join))
def test_no_lines_are_too_strange(text: str) -> None:
    try:
        lines(text)
    except InputError as error:
        assert str(error).strip()
