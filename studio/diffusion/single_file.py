"""A single file in the original (ldm, sgm) layout to the parts of a Model, offline: the architecture comes from the tensors' shapes."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from studio.diffusion.assembly import check, empty_text_encoder, empty_unet, empty_vae, fill, guarded, shapes_of
from studio.diffusion.blueprints import text_config, unet_config, unused_layers, vae_config
from studio.diffusion.families import FAMILIES, Family, TextEncoder, recognise
from studio.diffusion.unsaid import said
from studio.errors import Unreadable
from studio.formats.checkpoint import Facts, Weights, read_facts
from studio.formats.keys import UNET, VAE, Part, State, vae_to_original

WHAT = {"unet": "the UNet", "vae": "the autoencoder (VAE)", "clip": "the text encoder", "open_clip": "the text encoder"}


def identify(path: Path) -> tuple[Family, Facts]:
    """The family of a single file and what it says about itself, from its header alone; raises Unreadable."""
    weights = Weights(path)
    facts = read_facts(weights)
    return recognise(path.name, weights.shapes, facts.prediction), facts


class SingleFile:
    """An opened checkpoint whose family is known; each part is read when it is asked for. Raises Unreadable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.weights = Weights(path)
        self.facts = read_facts(self.weights)
        self.family = recognise(path.name, self.weights.shapes, self.facts.prediction)

    def unet(self, dtype: torch.dtype) -> nn.Module:
        """The UNet."""
        pooled = next((self._pooled_width(encoder) for encoder in self.family.text_encoders if encoder.pooled), 0)
        unet = guarded(self.path.name, "UNet", lambda: empty_unet(unet_config(self.family, self._shapes(UNET), pooled) | said(self.weights.metadata, "unet")))
        self._check(UNET, unet)
        fill(unet, UNET.to_diffusers(self.weights.read(UNET.root)), dtype)
        self._listen(unet)
        return unet

    def _listen(self, unet: nn.Module) -> None:
        """Where a file does not say what it predicts and its family is published in both ways, find out by asking the UNet."""
        kin = [f for f in FAMILIES if f.matches(self.weights.shapes) and f.prediction == "v_prediction"]
        if kin and self.facts.prediction is None and predicts_velocity(unet):
            self.family, self.facts = kin[0], replace(self.facts, prediction="v_prediction")
            unet.register_to_config(sample_size=self.family.resolution // 8)

    def vae(self, dtype: torch.dtype) -> nn.Module:
        """The autoencoder that comes with it."""
        if not VAE.names(self.weights.shapes):
            raise Unreadable(f"{self.path.name} has no autoencoder (nothing begins with {VAE.root}).", "Choose a VAE from models/VAE, or get the checkpoint with its VAE.")
        vae = guarded(self.path.name, "autoencoder", lambda: empty_vae(vae_config(self._shapes(VAE), self.family.latent_scale) | said(self.weights.metadata, "vae")))
        self._check(VAE, vae)
        return fill(vae, VAE.to_diffusers(self.weights.read(VAE.root)), dtype)

    def text_encoders(self, dtype: torch.dtype) -> tuple[nn.Module, ...]:
        """The text encoders in the family's order; layers that nothing uses are left out."""
        return tuple(self._text_encoder(encoder, dtype) for encoder in self.family.text_encoders)

    def _text_encoder(self, encoder: TextEncoder, dtype: torch.dtype) -> nn.Module:
        """One text encoder."""
        state: State = guarded(self.path.name, "text encoder", lambda: encoder.part.to_diffusers(self.weights.read(encoder.root)))
        for n in unused_layers(encoder, state):
            state = {k: v for k, v in state.items() if not k.startswith(f"text_model.encoder.layers.{n}.")}
        module = guarded(self.path.name, "text encoder", lambda: empty_text_encoder(text_config(encoder, shapes_of(state)) | said(self.weights.metadata, encoder.name), encoder.pooled))
        self._check(encoder.part, module)
        return fill(module, state, dtype)

    def _pooled_width(self, encoder: TextEncoder) -> int:
        """Width of the pooled text, from the original projection [d, p]."""
        return (self.weights.shapes.get(f"{encoder.root}text_projection") or (0, 0))[-1]

    def _shapes(self, part: Part) -> dict[str, tuple[int, ...]]:
        """Shapes of one part, under the original names without its prefix."""
        return {k.removeprefix(part.root): self.weights.shapes[k] for k in part.names(self.weights.shapes)}

    def _check(self, part: Part, module: nn.Module) -> None:
        """Every tensor of a part must be in the file under its original name and in its shape."""
        given = {k: self.weights.shapes[k] for k in part.names(self.weights.shapes)}
        given |= {part.root + k: given[part.root + old] for k, old in _old_names(part, given).items()}
        check(self.path.name, WHAT[part.kind], shapes_of(part.to_original(module.state_dict())), given, strict=part.kind == "unet")


@torch.no_grad()
def predicts_velocity(unet: nn.Module) -> bool:
    """Whether a UNet predicts velocity: at the last step it then gives back the opposite of a picture, not the noise it was given (A1111's test for SD2)."""
    settings = unet.config
    x, context = torch.full((1, settings.in_channels, 8, 8), 0.5), torch.full((1, 2, settings.cross_attention_dim), 0.5)
    out = unet(x.to(unet.dtype), torch.tensor([999]), context.to(unet.dtype)).sample.float()
    return bool((out - x[:, : out.shape[1]]).mean() < -1)


def _old_names(part: Part, given: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """Names with `text_model.` to the names without it that the first checkpoints used."""
    if part.kind != "clip":
        return {}
    bare = (key.removeprefix(part.root) for key in given)
    return {f"text_model.{key}": key for key in bare if key.startswith(("embeddings.", "encoder.", "final_layer_norm."))}


def single_vae(path: Path, scale: float, dtype: torch.dtype) -> nn.Module:
    """An autoencoder in a file of its own or in a checkpoint: original names with or without `first_stage_model.`, or diffusers' names; raises Unreadable."""
    weights = Weights(path)
    root = VAE.root if VAE.names(weights.shapes) else ""
    state = {key.removeprefix(root): tensor for key, tensor in weights.read(root).items()}
    if any(key.startswith("encoder.down_blocks.") for key in state):
        state = vae_to_original(state)
    if not any(key.startswith("decoder.") for key in state):
        raise Unreadable(f"{path.name} is not an autoencoder (VAE): nothing in it begins with decoder.", "Choose another VAE, or Automatic.")
    shapes = shapes_of(state)
    vae = guarded(path.name, "autoencoder", lambda: empty_vae(vae_config(shapes, scale) | said(weights.metadata, "vae")))
    plain = Part("vae", "")
    check(path.name, "an autoencoder (VAE)", shapes_of(plain.to_original(vae.state_dict())), shapes)
    return fill(vae, plain.to_diffusers(state), dtype)
