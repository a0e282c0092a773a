"""Networks as files: what their headers say, notes and pictures beside them, and acts that lose nothing."""

import base64
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from studio.errors import Conflict, InputError, NotFound, StudioError, Unreadable
from studio.formats.adapter import adapter_facts, adapter_hash
from studio.formats.hypernetwork import Hypernetwork, write_hypernetwork
from studio.jobs import JobStore
from studio.networks import acts, shelf
from studio.networks.facts import facts_of, family_of_checkpoint, texts_of
from studio.networks.header import tensors_hash, write_metadata
from studio.networks.notes import Notes, read_notes, write_notes
from studio.settings import Paths

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
LORA, HYPERNET, EMBEDDING = (shelf.KINDS[name] for name in ("lora", "hypernet", "embedding"))
KEY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def lora(path: Path, width: int = 768, rank: int = 4, **metadata: str) -> Path:
    """A LoRA of one layer, and in another precision a tensor whose bytes tell if they move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"{KEY}.lora_down.weight": torch.randn(rank, width), f"{KEY}.lora_up.weight": torch.randn(32, rank).half(), f"{KEY}.alpha": torch.tensor(2.0)}
    save_file(tensors, path, metadata=metadata or None)
    return path


def everything(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


KINDS = {
    "LoRA": ({"lora_down.weight": (4, 768), "lora_up.weight": (8, 4)}, {}),
    "DoRA": ({"lora_A.weight": (6, 1024), "lora_B.weight": (8, 6), "dora_scale": (1, 1024)}, {}),
    "LoHa": ({"hada_w1_a": (8, 3), "hada_w1_b": (3, 2048), "hada_w2_a": (8, 3), "hada_w2_b": (3, 2048)}, {}),
    "LoKr": ({"lokr_w1": (4, 4), "lokr_w2_a": (2, 5), "lokr_w2_b": (5, 2)}, {"ss_base_model_version": "sdxl_base_v1-0"}),
    "OFT": ({"oft_blocks": (2, 4, 4)}, {"ss_v2": "True"}),
    "GLoRA": ({"a1.weight": (3, 8), "a2.weight": (8, 3), "b1.weight": (3, 8), "b2.weight": (8, 3)}, {}),
    "IA3": ({"weight": (8,), "on_input": ()}, {"modelspec.architecture": "stable-diffusion-v1/lora"}),
    "Norm": ({"w_norm": (8,), "b_norm": (8,)}, {}),
    "Full": ({"diff": (8, 768), "diff_b": (8,)}, {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_tells_what_reading_the_file_with_torch_tells(tmp_path: Path, kind: str) -> None:
    shapes, metadata = KINDS[kind]
    save_file({f"{KEY}.{part}": torch.zeros(shape) for part, shape in shapes.items()}, tmp_path / "x.safetensors", metadata=metadata or None)
    light, full = facts_of(tmp_path / "x.safetensors"), adapter_facts(tmp_path / "x.safetensors")
    assert (light.method, light.rank, light.family) == (full.kind, full.rank, full.family) and light.method == kind


def test_a_hypernetwork_tells_its_family_and_no_file_runs_anything(root: Paths, tmp_path: Path) -> None:
    state = {"linear.0.weight": torch.zeros(2, 1), "linear.0.bias": torch.zeros(2), "linear.1.weight": torch.zeros(1, 2), "linear.1.bias": torch.zeros(1)}
    network = Hypernetwork("old", dict.fromkeys((320, 768), (state, state)), step=7)
    write_hypernetwork(root.hypernetworks / "old.pt", network)
    torch.save({1024: (state, state), "step": 9, "layer_structure": [1, 2, 2, 1]}, root.hypernetworks / "new.pt")

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return eval, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    for name, protocol in (("evil", 2), ("evil4", 4)):
        (root.hypernetworks / f"{name}.pt").write_bytes(b"".join(pickle.dumps(thing, protocol) for thing in (1, 2, 3, {768: Evil(), "step": 1})))
    (root.hypernetworks / "cut.pt").write_bytes(b"\x80\x02}q")
    (root.hypernetworks / "empty.pt").write_bytes(b"")
    told = {card["name"]: (card["method"], card["family"], card["step"]) for card in shelf.cards(root, HYPERNET)}
    assert told["old"] == ("Hypernetwork 1 2 1", "SD1", 7) and told["new"] == ("Hypernetwork 1 2 2 1", "SD2", 9)
    assert told["evil"] == told["evil4"] == ("Hypernetwork", "SD1", 1) and not (tmp_path / "ran").exists()
    assert [card["name"] for card in shelf.cards(root, HYPERNET) if card["problem"]] == ["cut", "empty"]


def test_cards_show_what_a_person_noted_before_what_the_file_says(root: Paths) -> None:
    said = {"modelspec.trigger_phrase": "ohwx", "modelspec.description": "by its maker", "ss_output_name": "alias", "ss_steps": "30"}
    path = lora(root.lora / "people" / "hero.safetensors", **said)
    other = lora(root.lora / "xl.safetensors", 2048)
    (root.lora / "broken.safetensors").write_bytes(b"\xff" * 9)
    cards = {card["name"]: card for card in shelf.cards(root, LORA)}
    hero = cards["hero"]
    assert (hero["text"], hero["trigger"], hero["description"], hero["folder"], hero["alias"], hero["step"], hero["picture"]) == ("<lora:hero:1>", "ohwx", "by its maker", "people", "alias", 30, "")
    assert (cards["xl"]["family"], cards["xl"]["misfit"], "damaged" in cards["broken"]["problem"]) == ("SDXL", "", True)
    (root.checkpoints / "sd.safetensors").write_bytes(b"")
    save_file({"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(4, 768)}, root.checkpoints / "sd.safetensors")
    assert {card["name"]: card["misfit"] for card in shelf.cards(root, LORA, "sd.safetensors")} == {"hero": "", "xl": "SD1", "broken": ""}
    path.with_suffix(".json").write_text(json.dumps({"activation text": "", "preferred weight": 0.75, "civitai": {"id": 5}, "sd version": "SDXL"}))
    again = shelf.card(root, LORA, path, "sd")
    assert (again["text"], again["trigger"], again["family"], again["misfit"]) == ("<lora:hero:0.75>", "", "SDXL", "SD1"), "an empty text of a person's is meant"
    acts.edit(root, LORA, "HERO", {"description": "mine", "notes": "二", "trigger": "a b", "weight": 0.5, "negative": "blur", "family": ""})
    kept = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert kept == {"activation text": "a b", "preferred weight": 0.5, "civitai": {"id": 5}, "sd version": "", "description": "mine", "negative text": "blur", "notes": "二"}
    with pytest.raises(InputError, match=r"preferred weight.*nan"):
        write_notes(other, Notes(weight=float("nan")))
    with pytest.raises(InputError, match="sd version"):
        write_notes(other, Notes(family="SD9"))
    path.with_suffix(".json").write_text('["no object"]')
    assert read_notes(path) == Notes() == replace(Notes(), trigger=None)


def test_the_tiny_world_fits_every_family(root: Paths) -> None:
    lora(root.lora / "hero.safetensors")
    assert family_of_checkpoint(root.shipped.checkpoints / "tiny-world") is None
    assert shelf.cards(root, LORA, "tiny-world")[0]["misfit"] == ""


def test_texts_written_into_a_file_leave_every_tensor_as_it_was(root: Paths) -> None:
    path = lora(root.lora / "hero.safetensors", ss_output_name="hero", ss_tag_frequency='{"5_x": {"b": 2, "a": 9}}')
    with safe_open(path, "pt") as file:
        before = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    digest, whole = adapter_hash(path, {}), path.read_bytes()
    assert tensors_hash(path) == digest
    (root.lora / "hero.preview.png").write_bytes(PNG)
    acts.write_into(root, LORA, "hero", " A  hero ", {"description": "二\n行", "author": "me", "trigger_phrase": "ohwx", "tags": "a, b"}, True)
    texts = texts_of(path)
    assert (texts["modelspec.title"], texts["modelspec.description"], texts["modelspec.tags"], texts["ss_output_name"]) == ("A hero", "二\n行", "a, b", "hero")
    assert texts["modelspec.architecture"] == "stable-diffusion-v1/lora" and base64.b64decode(texts["modelspec.thumbnail"].partition("base64,")[2]) == PNG
    assert tensors_hash(path) == adapter_hash(path, {}) == digest and path.read_bytes() != whole
    with safe_open(path, "pt") as file:
        assert file.metadata() == texts
        assert all(torch.equal(file.get_tensor(key), value) and file.get_tensor(key).dtype == value.dtype for key, value in before.items())
    (root.lora / "hero.preview.png").unlink()
    assert shelf.cover_in(path) == PNG and shelf.cards(root, LORA)[0]["picture"]
    told = shelf.told(root, LORA, "hero")
    assert told["tags"] == [{"folder": "5_x", "count": 2, "tags": [("a", 9), ("b", 2)]}] and "modelspec.thumbnail" not in str(told["sections"])
    acts.write_into(root, LORA, "hero", "", {"description": "", "author": "", "trigger_phrase": "", "tags": ""}, False)
    assert "modelspec.description" not in texts_of(path) and texts_of(path)["modelspec.title"] == "hero" and tensors_hash(path) == digest


def test_what_cannot_be_written_stays_as_it_is(root: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lora(root.lora / "hero.safetensors")
    torch.save({}, root.lora / "old.pt")
    before = everything(root.lora)
    with pytest.raises(InputError, match="no place"):
        acts.write_into(root, LORA, "old", "x", {}, False)
    with pytest.raises(InputError, match="licence"):
        acts.write_into(root, LORA, "hero", "x", {"licence": "mine"}, False)
    hashes = iter(("a", "b"))
    monkeypatch.setattr("studio.networks.header.tensors_hash", lambda _: next(hashes))
    with pytest.raises(Unreadable, match="changed while"):
        write_metadata(path, {"a": "b"})
    assert everything(root.lora) == before


def test_a_network_moves_with_its_notes_and_pictures_and_comes_back(root: Paths) -> None:
    lora(root.lora / "people" / "hero.safetensors")
    for name in ("hero.json", "hero.preview.png", "hero2.txt"):
        (root.lora / "people" / name).write_bytes(PNG if name.endswith("png") else b"{}")
    before = everything(root.lora)
    gone = acts.delete(root, LORA, "HERO")
    assert (gone.name, list(everything(root.lora)), acts.trashed(root, LORA), shelf.cards(root, LORA)) == ("hero", ["people/hero2.txt"], [gone], [])
    assert acts.restore(root, LORA, gone.id)["name"] == "hero" and everything(root.lora) == before
    told = acts.rename(root, LORA, "hero", "Villain")
    assert "<lora:Villain:1>" in told["note"]
    assert everything(root.lora) == {name.replace("hero.", "Villain."): content for name, content in before.items()}
    acts.rename(root, LORA, "Villain", "villain")
    acts.duplicate(root, LORA, "villain", "twin")
    assert len(everything(root.lora)) == 7
    for bad in ("", "../x", "a=b", "a:b", "a>b"):
        with pytest.raises(InputError, match="Name: "):
            acts.rename(root, LORA, "twin", bad)
    with pytest.raises(Conflict, match="could not tell"):
        acts.duplicate(root, LORA, "twin", "VILLAIN")
    with pytest.raises(NotFound):
        acts.restore(root, LORA, "../people")
    JobStore(root.database).submit("train", {"method": "lora", "config": {"name": "Twin"}})
    for act in (lambda: acts.delete(root, LORA, "twin"), lambda: acts.rename(root, LORA, "twin", "x"), lambda: acts.write_into(root, LORA, "twin", "x", {}, False)):
        with pytest.raises(Conflict, match="a training of it is queued"):
            act()


def test_a_new_picture_takes_the_place_of_all_old_ones_which_are_kept(root: Paths) -> None:
    path = lora(root.lora / "hero.safetensors")
    for name in ("hero.png", "hero.preview.jpg"):
        (root.lora / name).write_bytes(name.encode())
    assert shelf.previews_of(path)[0].name == "hero.png"
    acts.set_picture(root, LORA, "hero", PNG)
    assert [file.name for file in shelf.previews_of(path)] == ["hero.preview.png"] and (root.lora / "hero.preview.png").read_bytes() == PNG
    acts.set_picture(root, LORA, "hero", PNG + b"more")
    assert sorted(everything(root.outputs / "trash" / "previews").values()) == sorted([b"hero.png", b"hero.preview.jpg", PNG])
    with pytest.raises(InputError, match="no picture"):
        acts.set_picture(root, LORA, "hero", b"<svg/>")
    assert (root.lora / "hero.preview.png").read_bytes() == PNG + b"more"
    with pytest.raises(InputError, match="no generated picture"):
        acts.newest_picture(root)


def test_embeddings_have_cards_too(root: Paths) -> None:
    save_file({"emb_params": torch.ones(2, 768)}, root.embeddings / "word.safetensors", metadata={"modelspec.title": "A word"})
    JobStore(root.database).put_cards({str(root.embeddings / "word.safetensors"): {"vectors": 2, "width": 768}})
    acts.edit(root, EMBEDDING, "word", {"negative": "blur"})
    [card] = shelf.cards(root, EMBEDDING)
    assert (card["text"], card["method"], card["family"], card["negative"]) == ("word", "2 × 768", "SD1", "blur")
    assert shelf.told(root, EMBEDDING, "word")["title"] == "A word"
    acts.rename(root, EMBEDDING, "word", "other")
    assert sorted(everything(root.embeddings)) == ["other.json", "other.safetensors"]


def test_a_kind_that_is_none_is_told() -> None:
    with pytest.raises(StudioError, match="dance"):
        shelf.kind_of("dance")
