"""What a prompt wears: several networks at once come off without a trace, errors included, and what is being trained can be worn."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from studio import embedding_shelf, shelves
from studio.diffusion.cache import ModelCache
from studio.diffusion.model import Model
from studio.errors import InputError
from studio.formats.adapter import Adapter
from studio.formats.embedding import Embedding, write_embedding
from studio.formats.hypernetwork import Hypernetwork, write_hypernetwork
from studio.jobs import SilentLane
from studio.requests.generate import GenerateRequest
from studio.services.desk import Desk
from studio.services.generation import run
from studio.services.wardrobe import dressed
from studio.settings import Paths
from tests.diffusion.small import kohya_file, lora_tensors, rand, weights

THREE = "a monster <lora:one:0.5:0.2:lbw=0.5,0,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1> <lora:two:te=0.3:unet=-0.4> <lyco:three:0.1>"


@pytest.fixture
def desk(root: Paths, tiny_cache: ModelCache, tiny: Model) -> Desk:
    """A desk with three LoRAs for the tiny world."""
    for seed, name in enumerate(("one", "two", "three")):
        kohya_file(root.lora / f"{name}.safetensors", tiny, seed=seed)
    return Desk(root, tiny_cache)


def painted(desk: Desk, prompt: str, lane: SilentLane, **values: Any) -> tuple[dict[str, Any], bytes]:
    """What a job said, and its picture."""
    result = run(GenerateRequest(prompt=prompt, steps=1, seed=3, preview_every=0, **values), lane, desk)
    return result, Path(result["images"][0]).read_bytes()


def network(width: int) -> Hypernetwork:
    """A hypernetwork of one width that changes much."""
    shapes = {"linear.0.weight": (2 * width, width), "linear.0.bias": (2 * width,), "linear.1.weight": (width, 2 * width), "linear.1.bias": (width,)}
    return Hypernetwork("net", {width: tuple({key: rand(*shape, seed=side) for key, shape in shapes.items()} for side in (1, 2))})


def test_three_networks_leave_every_weight_as_it_was(desk: Desk, tiny: Model, lane: SilentLane) -> None:
    before = weights(tiny)
    plain, bare = painted(desk, "a monster", lane)
    worn, look = painted(desk, THREE, lane)
    assert weights(tiny) == before and look != bare
    assert (plain["notes"], worn["notes"]) == ([], [])
    assert all(f"{name}: " in worn["infotexts"][0] for name in ("one", "two", "three"))
    assert painted(desk, "a monster", lane)[1] == bare


def test_errors_leave_every_weight_as_it_was_and_unknown_names_are_told(desk: Desk, tiny: Model, lane: SilentLane) -> None:
    before = weights(tiny)
    name = "lora_unet_mid_block_attentions_0_proj_in"
    save_file(lora_tensors(name, torch.nn.Linear(7, 5)), desk.paths.lora / "wrong.safetensors")
    for prompt, told in ((f"{THREE} <lora:wrong:1>", "does not fit"), (f"{THREE} <lora:one:much>", "is no number"), (f"{THREE} <lora:one:1:lbw=1,2,3>", "lock")):
        with pytest.raises(InputError, match=told):
            painted(desk, prompt, lane)
        assert weights(tiny) == before
    with pytest.raises(RuntimeError, match="halfway"), dressed(tiny, THREE, desk):
        assert weights(tiny) != before
        raise RuntimeError("halfway")
    assert weights(tiny) == before
    notes = painted(desk, "<lora:nobody:1> <hypernet:nothing:1> <dance:x> a monster", lane)[0]["notes"]
    assert [next(word for word in ("'nobody'", "'nothing'", "'dance'") if word in note) for note in notes] == ["'nobody'", "'nothing'", "'dance'"]


def test_what_is_being_trained_goes_before_a_file_of_its_name_and_has_no_hash(desk: Desk, tiny: Model, tmp_path: Path) -> None:
    steps = [kohya_file(tmp_path / f"{seed}.safetensors", tiny, seed=seed) for seed in (7, 8)]
    weight = tiny.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight

    def change(prompt: str) -> torch.Tensor:
        with dressed(tiny, prompt, desk) as outfit:
            assert list(outfit.hashes) == ["two"] and outfit.notes == []
            return weight.detach().clone()

    now: list[Adapter] = [replace(steps[0], name="One")]
    desk.live_adapters["One"] = lambda: now[0]
    first = change("<lora:one:1> <lora:two:0>")
    now[0] = replace(steps[1], name="One")
    assert not torch.equal(first, change("<lora:ONE:1> <lora:two:0>")), "it is worn as it is at that moment"
    del desk.live_adapters["One"]
    with dressed(tiny, "<lora:one:1>", desk) as outfit:
        assert list(outfit.hashes) == ["one"] and not torch.equal(first, weight)


def test_a_hypernetwork_in_training_is_used(desk: Desk, tiny: Model) -> None:
    width = tiny.unet.config.cross_attention_dim
    layer = tiny.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k
    context = rand(1, 2, width).to(layer.weight)
    plain = layer(context)
    write_hypernetwork(desk.paths.hypernetworks / "net.pt", replace(network(width), layers={width: tuple({k: v * 0 for k, v in side.items()} for side in network(width).layers[width])}))
    with dressed(tiny, "<hypernet:net:1>", desk):
        assert torch.equal(layer(context), plain)
    desk.live_hypernetworks["net"] = lambda: network(width)
    with dressed(tiny, "<hypernet:NET:0.5>", desk) as outfit:
        assert not torch.equal(layer(context), plain) and outfit.notes == []
    assert torch.equal(layer(context), plain)


def test_files_of_one_name_are_told_apart_by_their_folder(desk: Desk, tiny: Model, lane: SilentLane) -> None:
    (desk.paths.lora / "styles").mkdir()
    other = kohya_file(desk.paths.lora / "styles" / "one.safetensors", tiny, seed=9)
    (desk.paths.hypernetworks / "more").mkdir()
    write_hypernetwork(desk.paths.hypernetworks / "more" / "net.pt", network(tiny.unet.config.cross_attention_dim))
    plain, look = painted(desk, "a <lora:one:1>", lane)
    assert plain["notes"] == ["Several LoRA files are called 'one': one.safetensors, styles/one.safetensors. 'one.safetensors' was used; write <lora:styles/one:1> to choose another."]
    assert painted(desk, "a <lora:one:1>", lane)[1] == look, "the same one every time"
    chosen, second = painted(desk, "a <lora:styles/one:1> <hypernet:more/net:0>", lane)
    assert chosen["notes"] == [] and second != look
    assert f"styles/one: {other.hash[:12]}" in chosen["infotexts"][0]
    missing = painted(desk, "a <lora:styles/two:1>", lane)[0]["notes"]
    assert missing == ["There is no LoRA 'styles/two'; the picture was painted without it."]


def test_loras_of_one_alias_are_told_and_the_other_can_be_named(desk: Desk, tiny: Model, lane: SilentLane) -> None:
    for seed, name in enumerate(("four", "five")):
        kohya_file(desk.paths.lora / f"{name}.safetensors", tiny, seed=seed, ss_output_name="hero")
    plain, look = painted(desk, "a <lora:hero:1>", lane)
    assert plain["notes"] == ["Several LoRA files are called 'hero': five.safetensors, four.safetensors. 'five.safetensors' was used; write <lora:four:1> to choose another."]
    chosen, second = painted(desk, "a <lora:four:1>", lane)
    assert chosen["notes"] == [] and second != look


def test_embeddings_of_one_name_are_told_and_the_other_can_be_named(desk: Desk, tiny: Model, lane: SilentLane) -> None:
    (desk.paths.embeddings / "styles").mkdir()
    width = tiny.text_encoders[0].config.hidden_size
    for seed, name in enumerate(("gnarl.pt", "styles/gnarl.pt", "styles/(odd).pt", "(odd).pt")):
        write_embedding(desk.paths.embeddings / name, Embedding("gnarl", rand(1, width, seed=seed)))
    plain, look = painted(desk, "a gnarl", lane)
    assert plain["notes"] == ["Several embeddings are called 'gnarl': gnarl.pt, styles/gnarl.pt. 'gnarl.pt' was used; write styles/gnarl to use another."]
    chosen, second = painted(desk, "a styles/gnarl", lane)
    assert chosen["notes"] == [] and second != look
    assert "styles/gnarl: " in chosen["infotexts"][0]
    assert painted(desk, r"a \(odd\)", lane)[0]["notes"] == [r"Several embeddings are called '(odd)': (odd).pt, styles/(odd).pt. '(odd).pt' was used; write styles/\(odd\) to use another."]
    assert painted(desk, "a cat", lane)[0]["notes"] == []
    assert [card.name for card in shelves.embeddings(desk.paths)] == ["(odd)", "styles/(odd)", "gnarl", "styles/gnarl"]
    assert embedding_shelf.file_of(desk.paths, "styles/gnarl") == desk.paths.embeddings / "styles" / "gnarl.pt"
