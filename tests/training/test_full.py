"""Whole networks that learn: what learns, that it does, the average, resuming to the bit, and files and folders that say what the live network says."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from studio.diffusion.conditioning import condition
from studio.diffusion.families import SD1, SDXL, Family
from studio.diffusion.folder_writing import save_folder
from studio.diffusion.loading import load_model
from studio.diffusion.model import Model
from studio.diffusion.tokenizer import END, START, tokens_of
from studio.errors import InputError
from studio.formats.checkpoint import Weights
from studio.formats.provenance import Provenance
from studio.requests.train import DreamboothConfig, FineTuneConfig
from studio.settings import Paths
from studio.training.averages import Averages
from studio.training.loop import train
from studio.training.methods import method_of
from studio.training.methods.full import Full, Scope, _computed
from studio.training.methods.lora import Lora
from studio.training.optim import build, optimizer_tensors, restore_optimizer
from studio.training.preparation import prepared
from tests.diffusion.originals import KINDS, Kind, make, original, write
from tests.diffusion.small import made, predicted, weights
from tests.training.test_loop import Quiet, plan

CPU = torch.device("cpu")


def config(**knobs: Any) -> FineTuneConfig:
    """Few knobs that differ from their defaults."""
    return FineTuneConfig(**{"name": "thing", "data": "pictures", "learn_rate": "1e-3", **knobs})


def attached(model: Model, **knobs: Any) -> Full:
    """A learner with these knobs."""
    learner = method_of("fine_tune").attach(model, None, config(**knobs))
    assert isinstance(learner, Full)
    return learner


def learn(learner: Full, steps: int, begin: int = 0, optimizer: torch.optim.Optimizer | None = None, name: str = "AdamW", **knobs: Any) -> tuple[torch.optim.Optimizer, Quiet]:
    """Take steps through the real loop at a fifth of its rate."""
    optimizer = optimizer or build(name, [list(group.parameters) for group in learner.groups()], 1e-3)
    watch = Slow(end=steps, step=begin)
    with learner.attached(), prepared(learner.model, **knobs) as network:
        train(network, learner, optimizer, plan(1, 1, 8, checkpointing=bool(knobs)), watch)
    return optimizer, watch


class Slow(Quiet):
    """A watch at a rate for whole networks."""

    def rate(self) -> float:
        """Always the same."""
        return 1e-3


def live(learner: Full) -> list[Tensor]:
    """What learns, as it is now."""
    return [p.detach().clone() for p in learner.parameters()]


@pytest.mark.parametrize(("layers", "count"), [("all", 1.0), ("attention", 0.5), ("cross-attention", 0.25)])
def test_only_what_is_wanted_learns(layers: str, count: float) -> None:
    model = made()
    learner = attached(model, trained_layers=layers)
    before = {name: p.detach().clone() for name, p in model.unet.named_parameters()}
    text = weights(model)
    learn(learner, 1)
    moved = {name for name, p in model.unet.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert len(moved) <= count * len(before)
    assert all({"all": "", "attention": ".attn", "cross-attention": ".attn2."}[layers] in f".{name}" for name in moved)
    assert {p for p in (*model.unet.parameters(), *model.vae.parameters(), *model.text_encoder.parameters()) if p.requires_grad} == set(learner.parameters())
    after = weights(model)
    assert all(after[key] == value for key, value in text.items() if key.startswith("1.")), "text encoders stay"


@pytest.mark.parametrize("family", [SD1, SDXL], ids=lambda family: family.name)
def test_text_encoders_learn_at_their_part_of_the_rate(family: Family) -> None:
    model = made(family, 40 if family is SDXL else 32)
    learner = attached(model, text_encoder_rate=2.5e-4)
    assert [(group.name, group.share(0)) for group in learner.groups()] == [("UNet", 1.0), ("text encoder", 0.25)]
    before = model.text_encoders[-1].text_model.final_layer_norm.weight.detach().clone() if family is SDXL else model.token_table.detach().clone()
    learn(learner, 2, checkpointing=True)
    after = model.text_encoders[-1].text_model.final_layer_norm.weight if family is SDXL else model.token_table
    assert 0 < float((after.detach() - before).abs().max()) <= 2 * 2.6e-4, "AdamW moves a number by the rate at most"


def test_the_loss_falls_and_the_figures_say_how_far_it_went() -> None:
    learner = attached(made())
    assert learner.figures()["distance"] == 0
    _, watch = learn(learner, 8)
    losses = [step.loss for step in watch.heard]
    assert sum(losses[-3:]) < sum(losses[:3])
    assert 0 < learner.figures()["distance"] < 100
    assert 0 < learner.figures()["norm"] < 1


def test_half_precision_is_widened_where_it_learns() -> None:
    model = made()
    model.unet.half()
    model.dtype = torch.float16
    learner = attached(model)
    assert {p.dtype for p in learner.parameters()} == {torch.float32} == {model.dtype}
    assert torch.isfinite(predicted(model)).all()


def test_in_mixed_precision_gradients_stay_fp32_and_the_loss_is_near() -> None:
    exact = learn(attached(made()), 1)[1].heard[0].loss
    learner = attached(made())
    for network in (learner.model.unet, learner.model.text_encoder):
        network.forward = partial(_computed, network.forward, "cpu", torch.bfloat16)
    before = live(learner)
    _, watch = learn(learner, 1, checkpointing=True)
    assert watch.heard[0].loss == pytest.approx(exact, rel=0.02)
    assert watch.heard[0].loss != exact
    assert {p.dtype for p in learner.parameters()} == {p.grad.dtype for p in learner.parameters() if p.grad is not None} == {torch.float32}
    assert sum(not torch.equal(a, b) for a, b in zip(before, live(learner), strict=True)) > len(before) / 2


@pytest.mark.parametrize("name", ["AdamW", "Adafactor"])
def test_going_on_gives_the_same_to_the_bit(name: str) -> None:
    knobs: dict[str, Any] = {"text_encoder_rate": 5e-4, "ema_decay": 0.99}
    whole = attached(made(), **knobs)
    learn(whole, 3, name=name)
    first = attached(made(), **knobs)
    optimizer, _ = learn(first, 1, name=name)
    kept = {**first.state(), **optimizer_tensors(optimizer)}
    again = attached(made(), **knobs)
    again.restore(kept)
    fresh = build(name, [list(group.parameters) for group in again.groups()], 1e-3)
    restore_optimizer(fresh, kept)
    learn(again, 3, 1, fresh)
    assert all(torch.equal(a, b) for a, b in zip(live(whole), live(again), strict=True))
    wanted, found = whole.state(), again.state()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(value, found[key]) for key, value in wanted.items())


def test_the_average_follows_its_formula_and_is_worn_without_a_trace() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3))
    average = Averages({"a": parameter}, 0.5)
    wanted = torch.zeros(3)
    for step in range(9):
        parameter.data.fill_(float(step + 1))
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * (step + 1)
    assert torch.allclose(average.tensors[0], wanted)
    place, value = parameter.data_ptr(), parameter.detach().clone()
    with average.worn():
        assert torch.equal(parameter, average.tensors[0])
    assert parameter.data_ptr() == place
    assert torch.equal(parameter, value)


def original_model(kind: Kind, folder: Path) -> Model:
    """A small random checkpoint of a kind, loaded from a file in the original layout."""
    return load_model(write(folder / "base.safetensors", original(make(kind)), kind.metadata or None), CPU, torch.float32)


def says(model: Model) -> Tensor:
    """The network's answer to one prompt."""
    with torch.no_grad():
        return model.predict(torch.linspace(-1, 1, 4 * 64).reshape(1, 4, 8, 8), torch.tensor(500), condition(model, ["a red dog"], {}))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name in ("SD1", "SDXL")], ids=lambda kind: kind.name)
def test_the_file_and_the_folder_say_what_the_live_network_says(tmp_path: Path, kind: Kind) -> None:
    model = original_model(kind, tmp_path)
    learner = Full(model, Scope(text=0.5, decay=0.5, precision=torch.float32, folder_of="thing"))
    learn(learner, 2)
    learner.provenance = Provenance(name="thing", family="SD1", resolution=(128, 64), checkpoint="base", method="fine_tune", step=2, trigger="thing dog")
    raw = says(model)
    with learner.shown():
        shown = says(model)
        learner.shelve(tmp_path / "thing.safetensors", 2)
        learner.shelve(tmp_path / "thing-2.safetensors", 2)
    assert not torch.equal(raw, shown), "the average is what is saved"
    assert torch.equal(says(model), raw)
    for name in ("thing.safetensors", "thing-diffusers"):
        assert torch.equal(says(load_model(tmp_path / name, CPU, torch.float32)), shown), name
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base.safetensors", "thing-2.safetensors", "thing-diffusers", "thing.safetensors"], "a copy has no folder"
    said = Weights(tmp_path / "thing.safetensors").metadata
    assert (said["modelspec.title"], said["modelspec.resolution"], said["modelspec.trigger_phrase"]) == ("thing", "128x64", "thing dog")
    assert (said["modelspec.sai_model_spec"], said["modelspec.architecture"]) == ("1.0.1", model.family.architecture)
    data = (tmp_path / "thing.safetensors").read_bytes()
    assert said["modelspec.hash_sha256"] == f"0x{hashlib.sha256(data[8 + int.from_bytes(data[:8], 'little') :]).hexdigest()}"


@pytest.mark.parametrize("family", [SD1, SDXL], ids=lambda family: family.name)
def test_diffusers_own_pipeline_loads_the_folder(tmp_path: Path, family: Family) -> None:
    model = made(family, 40 if family is SDXL else 32)
    save_folder(model, tmp_path / "thing", torch.float32)
    save_folder(model, tmp_path / "thing", torch.float32)  # again, in its own place
    assert [p.name for p in tmp_path.iterdir()] == ["thing"]
    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "thing", local_files_only=True)
    names = {"unet": model.unet, "vae": model.vae, **{e.name: m for e, m in zip(family.text_encoders, model.text_encoders, strict=True)}}
    for name, network in names.items():
        assert all(torch.equal(a, b) for a, b in zip(getattr(pipeline, name).state_dict().values(), network.state_dict().values(), strict=True)), name
    assert [getattr(pipeline, e.name.replace("text_encoder", "tokenizer")).pad_token_id for e in family.text_encoders] == [e.pad for e in family.text_encoders]
    assert pipeline.tokenizer("a red dog").input_ids == [START, *tokens_of("a red dog"), END]
    assert pipeline.scheduler.config.beta_schedule == "scaled_linear"


@pytest.mark.parametrize(("precision", "stored"), [("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_the_file_has_the_precision_that_is_wanted(tmp_path: Path, precision: str, stored: torch.dtype) -> None:
    learner = attached(made(), save_precision=precision)
    learner.shelve(tmp_path / "a.safetensors", 0)
    assert {t.dtype for t in Weights(tmp_path / "a.safetensors").read().values() if t.is_floating_point()} == {stored}


def test_weights_too_large_for_fp16_are_not_lost(tmp_path: Path) -> None:
    learner = attached(made())
    learner.parameters()[0].data.fill_(1e6)
    learner.shelve(tmp_path / "a.safetensors", 0)
    found = Weights(tmp_path / "a.safetensors").read()
    assert all(torch.isfinite(t).all() for t in found.values())
    assert {t.dtype for t in found.values() if t.is_floating_point()} == {torch.bfloat16}


def test_names_that_are_taken_and_what_cannot_be_gone_on_from_are_said(root: Paths) -> None:
    method = method_of("fine_tune")
    assert method.mistakes(root, config()) == []
    (root.checkpoints / "thing.safetensors").write_bytes(b"")
    (root.checkpoints / "other-diffusers").mkdir()
    assert "is taken" in method.mistakes(root, config())[0]
    assert method.mistakes(root, config(overwrite=True, checkpoint="tiny-world")) == []
    assert "trained on" in method.mistakes(root, config(overwrite=True, checkpoint="thing"))[0]
    assert "choose 'old' as the checkpoint" in method.mistakes(root, config(name="new", start_from="old"))[0]
    assert "by the folder" in method.mistakes(root, config(name="other", save_folder=True))[0]
    assert method.mistakes(root, config(name="other")) == []


def test_dreambooth_trains_a_checkpoint_or_a_lora(root: Paths) -> None:
    method = method_of("dreambooth")
    knobs: dict[str, Any] = {"name": "me", "data": "pictures", "class_word": "person", "rank": 4}
    whole, thin = DreamboothConfig(**knobs), DreamboothConfig(**knobs, result="LoRA")
    assert (method.private(whole), method.private(thin)) == (True, False)
    assert next(iter(method.shelves(root, whole).values())).parent == root.checkpoints
    assert next(iter(method.shelves(root, thin).values())).parent == root.lora
    learner = method.attach(made(), None, thin)
    assert isinstance(learner, Lora)
    assert learner.grown.recipe.rank == learner.grown.recipe.alpha == 4
    assert "1e-4" in learner.warnings()[0]
    assert method.attach(made(), None, thin.model_copy(update={"learn_rate": "1e-4"})).warnings() == []
    assert isinstance(method.attach(made(), None, whole), Full)
    with pytest.raises(InputError, match="not those of DreamBooth"):
        method.attach(made(), None, config())
