"""Networks are active in the pass and at the steps where the prompt has them, and every weight is put back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from studio.cancellation import Stopped, stoppable
from studio.diffusion.adapters import Wear, worn
from studio.diffusion.cache import ModelCache
from studio.diffusion.model import Model
from studio.errors import InputError
from studio.formats.adapter import read_adapter
from studio.formats.hypernetwork import Hypernetwork, write_hypernetwork
from studio.formats.infotext import read_infotext
from studio.jobs import SilentLane
from studio.pasting import request_values
from studio.requests.generate import GenerateRequest
from studio.services.desk import Desk
from studio.services.generation import run
from studio.settings import Paths
from tests.diffusion.small import kohya_file, rand, weights

STEPS = 4


@pytest.fixture
def desk(root: Paths, tiny_cache: ModelCache, tiny: Model) -> Desk:
    """A desk with two LoRAs and a hypernetwork for the tiny world."""
    for seed, name in enumerate(("one", "two")):
        kohya_file(root.lora / f"{name}.safetensors", tiny, seed=seed)
    width = tiny.unet.config.cross_attention_dim
    shapes = {"linear.0.weight": (2 * width, width), "linear.0.bias": (2 * width,), "linear.1.weight": (width, 2 * width), "linear.1.bias": (width,)}
    write_hypernetwork(root.hypernetworks / "net.pt", Hypernetwork("net", {width: tuple({key: rand(*shape, seed=side) for key, shape in shapes.items()} for side in (1, 2))}))
    return Desk(root, tiny_cache)


def probes(model: Model) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A layer of the UNet and one of the text encoder."""
    return model.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k, model.text_encoders[0].encoder.layers[0].self_attn.q_proj


@contextmanager
def watched(desk: Desk, model: Model, *sets: str) -> Iterator[tuple[list[str], list[str]]]:
    """Which of some sets of LoRAs, written as `one:0.5 two:1`, the UNet and the text encoder had at each call."""
    known: dict[bytes, str] = {}
    for text in ("", *sets):
        pairs = [item.split(":") for item in text.split()]
        with worn(model, [Wear(read_adapter(desk.paths.lora / f"{name}.safetensors"), float(strength)) for name, strength in pairs]):
            known |= {layer.weight.detach().numpy().tobytes(): text for layer in probes(model)}
    seen: tuple[list[str], list[str]] = ([], [])
    tops = (model.unet, model.text_encoders[0])
    handles = [
        top.register_forward_pre_hook(lambda *_, layer=layer, calls=calls: calls.append(known.get(layer.weight.detach().numpy().tobytes(), "another")))
        for top, layer, calls in zip(tops, probes(model), seen, strict=True)
    ]
    before = weights(model)
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
    assert weights(model) == before


def painted(desk: Desk, lane: SilentLane | None = None, **values: Any) -> dict[str, Any]:
    """What a job gives."""
    lane = lane or SilentLane()
    with stoppable(lane.stopping):
        return run(GenerateRequest(**{"steps": STEPS, "sampler": "Euler", "seed": 3, "width": 64, "height": 64, "cfg_scale": 1, "preview_every": 0, **values}), lane, desk)


@pytest.mark.parametrize(
    ("prompt", "unet", "text"),
    [
        ("a <lora:one:1>", ["one:1"] * 4, ["one:1"]),
        ("a [<lora:one:1>:0.5]", ["", "", "", "one:1"], ["", "one:1"]),
        ("a [<lora:one:1>::0.5]", ["one:1", "one:1", "one:1", ""], ["one:1", ""]),
        ("a [<lora:one:0.3>:<lora:one:1>:0.5]", ["one:0.3", "one:0.3", "one:0.3", "one:1"], ["one:0.3", "one:1"]),
        ("a <lora:two:1> [<lora:one:1>|]", ["one:1 two:1", "one:1 two:1", "two:1", "one:1 two:1"], ["one:1 two:1", "two:1"]),
        ("a [<lora:one:1>:0.5] AND b [<lora:two:1>::1]", ["two:1", "two:1", "", "one:1"], ["two:1", "", "one:1"]),
        ("a [[<lora:one:1>:<lora:two:1>:1]::2]", ["one:1", "one:1", "two:1", ""], ["one:1", "two:1", ""]),
        ("a [<lora:one:0.5>::1] <lora:one:0.5>", ["one:1", "one:1", "one:0.5", "one:0.5"], ["one:1", "one:0.5"]),
        ("a # <lora:one:1>", [""] * 4, [""]),
    ],
)
def test_a_lora_is_active_only_at_the_steps_where_the_prompt_has_it(desk: Desk, tiny: Model, prompt: str, unet: list[str], text: list[str]) -> None:
    with watched(desk, tiny, "one:1", "two:1", "one:0.3", "one:0.5", "one:1 two:1") as (seen, read):
        result = painted(desk, prompt=prompt)
    assert seen == unet and list(dict.fromkeys(read)) == text and result["notes"] == []


def test_a_hypernetwork_follows_the_prompt_too(desk: Desk, tiny: Model) -> None:
    layer, answers = probes(tiny)[0], []
    handle = layer.register_forward_hook(lambda _layer, inputs, output: answers.append(not torch.equal(output, torch.nn.functional.linear(kept[0], layer.weight, layer.bias))))
    kept: list[torch.Tensor] = []
    block = tiny.unet.mid_block.attentions[0].transformer_blocks[0]
    other = block.attn2.register_forward_pre_hook(lambda _layer, _args, named: kept.insert(0, named["encoder_hidden_states"]), with_kwargs=True)
    try:
        painted(desk, prompt="a [<hypernet:net:1>:0.5]")
    finally:
        handle.remove()
        other.remove()
    assert answers == [False, False, False, True]


def test_a_picture_with_switched_networks_is_painted_again_from_its_infotext(desk: Desk) -> None:
    first = painted(desk, prompt="a [<lora:one:0.3>:<lora:one:1>:0.5] [x|<lora:two:1>]", batch_size=2)
    values, _ = request_values(first["infotexts"][0])
    again = painted(desk, **{**values, "batch_size": 2})
    assert [Path(path).read_bytes() for path in first["images"]] == [Path(path).read_bytes() for path in again["images"]]
    plain = painted(desk, prompt="a <lora:one:1> [x|]", batch_size=2)
    assert Path(plain["images"][0]).read_bytes() != Path(first["images"][0]).read_bytes()


@pytest.mark.parametrize(
    ("prompts", "first", "second"),
    [
        (("a <lora:one:1>", ""), ["one:1"] * 4, ["one:1"] * 3),
        (("a <lora:one:1>", "b"), ["one:1"] * 4, [""] * 3),
        (("a", "b <lora:two:1>"), [""] * 4, ["two:1"] * 3),
        (("a <lora:one:1>", "b <lora:one:1> <lora:two:1>"), ["one:1"] * 4, ["one:1 two:1"] * 3),
        (("a [<lora:one:1>::0.5]", "b [<lora:two:1>::1.4]"), ["one:1"] * 3 + [""], ["two:1", "two:1", ""]),
    ],
)
def test_each_pass_of_hires_has_the_networks_of_its_own_prompt(desk: Desk, tiny: Model, prompts: tuple[str, str], first: list[str], second: list[str]) -> None:
    values = {"hires": True, "hires_scale": 1, "hires_steps": 3, "hires_denoising_strength": 1.0}
    with watched(desk, tiny, "one:1", "two:1", "one:1 two:1") as (seen, _):
        result = painted(desk, prompt=prompts[0], hires_prompt=prompts[1], **values)
    assert seen == first + second
    named = read_infotext(result["infotexts"][0]).get("Lora hashes", "")
    assert [name in named for name in ("one: ", "two: ")] == [any(f"<lora:{name}" in prompt for prompt in prompts) for name in ("one", "two")]


def test_what_both_passes_use_alike_is_applied_once(desk: Desk, tiny: Model) -> None:
    places: list[int] = []
    handle = tiny.unet.register_forward_pre_hook(lambda *_: places.append(probes(tiny)[0].weight.data_ptr()))
    try:
        painted(desk, prompt="a <lora:one:1>", hires=True, hires_scale=1, batch_count=2)
    finally:
        handle.remove()
    assert len(places) == 4 * STEPS and len(set(places)) == 1


def test_styles_reach_the_prompts_of_the_second_pass(desk: Desk) -> None:
    desk.paths.styles.write_text("name,prompt,negative_prompt\nink,{prompt} in ink,blurry\n")
    result = painted(desk, prompt="a", styles=("ink",), hires=True, hires_scale=1, hires_prompt="b", hires_negative_prompt="c")
    facts = read_infotext(result["infotexts"][0])
    assert (facts["Hires prompt"], facts["Hires negative prompt"]) == ("b in ink", "c, blurry")


def test_a_tag_that_is_repeated_a_thousand_times_is_read_and_applied_once(desk: Desk, tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from studio.services import wardrobe

    read: list[Path] = []
    monkeypatch.setattr(wardrobe, "read_adapter", lambda path: (read.append(path), read_adapter(path))[1])
    with watched(desk, tiny, "one:1") as (seen, _):
        result = painted(desk, prompt="a " + "<lora:one:0.001>" * 1000 + "<lora:nobody:1>" * 100)
    assert read == [desk.paths.lora / "one.safetensors"] and len(result["notes"]) == 1
    assert seen[0] in ("one:1", "another"), "the sum of a thousand thousandths is 1 up to rounding"
    with watched(desk, tiny, "one:500") as (seen, _), pytest.raises(InputError, match="no number"):
        painted(desk, prompt="<lora:one:0.5>" * 1000 + "<lora:one:x>")
    with watched(desk, tiny, "one:4") as (seen, _):
        painted(desk, prompt="<lora:one:0.5>" * 8)
    assert seen == ["one:4"] * STEPS


@pytest.mark.parametrize("heard", [1, 2, 9, 30])
def test_a_stop_while_networks_are_read_or_applied_paints_nothing_and_leaves_no_trace(desk: Desk, tiny: Model, heard: int) -> None:
    class Hurried(SilentLane):
        """A lane on which the person presses Stop after so many looks."""

        looks = 0

        def stopping(self) -> bool:
            self.looks += 1
            return self.looks > heard

    lane = Hurried()
    with watched(desk, tiny) as (seen, _), pytest.raises(Stopped):
        painted(desk, lane, prompt="a <lora:one:1> <lora:two:1> <hypernet:net:1>")
    assert seen == [] and lane.looks == heard + 1


def test_a_stop_or_an_error_in_the_middle_of_a_switched_walk_leaves_no_trace(desk: Desk, tiny: Model) -> None:
    class Late(SilentLane):
        """A lane on which the person presses Stop after the second step, or, `between`, while the networks are switched after it."""

        def __init__(self, between: bool) -> None:
            super().__init__()
            self.steps, self.between = 0, between

        def emit(self, kind: str, /, **data: Any) -> None:
            super().emit(kind, **data)
            self.steps += kind == "progress"

        def stopping(self) -> bool:
            return self.steps >= 2 and (not self.between or (len(seen) >= 2 and self.asked_again()))

        def asked_again(self) -> bool:
            """From the second question after the step on."""
            self.questions = getattr(self, "questions", 0) + 1
            return self.questions > 1

    for between in (False, True):
        with watched(desk, tiny, "one:1") as (seen, _):
            result = painted(desk, Late(between), prompt="a [<lora:one:1>::1]", hires=True, hires_scale=1)
        assert seen == ["one:1", "one:1"] and len(result["images"]) == 1 and result["stopped"], "the second pass is not begun"

    def failing(*_: Any) -> None:
        if probes(tiny)[0].weight.detach().numpy().tobytes() != plain:
            raise RuntimeError("halfway")

    plain = probes(tiny)[0].weight.detach().numpy().tobytes()
    handle = tiny.unet.register_forward_pre_hook(failing)
    try:
        with watched(desk, tiny), pytest.raises(RuntimeError, match="halfway"):
            painted(desk, prompt="a [<lora:one:1>:0.5]")
    finally:
        handle.remove()


def test_old_timelines_of_prompt_editing_are_used_in_both_passes(desk: Desk, tiny: Model) -> None:
    with watched(desk, tiny, "one:1") as (seen, _):
        result = painted(desk, prompt="a [<lora:one:1>::1.0]", old_prompt_editing=True, hires=True, hires_scale=1, hires_denoising_strength=1.0)
    assert seen == ["one:1", "one:1", "", ""] * 2
    values, _ = request_values(result["infotexts"][0])
    assert values["old_prompt_editing"] and Path(painted(desk, **values)["images"][0]).read_bytes() == Path(result["images"][0]).read_bytes()
    with watched(desk, tiny, "one:1") as (seen, _):
        painted(desk, prompt="a [<lora:one:1>::1.0]")
    assert seen == ["one:1"] * STEPS
