"""Networks put together from tensors: built without numbers, checked by name and shape, filled in the precision asked for."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from studio.cancellation import raise_if_stopped
from studio.errors import Unreadable
from studio.formats.keys import State, text_name

Shapes = Mapping[str, tuple[int, ...]]
Made = TypeVar("Made")

_TEXT_SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings", "projection_dim")


def read_in() -> None:
    """Import what the functions here make networks with."""
    for module in ("diffusers.models.unets.unet_2d_condition", "diffusers.models.autoencoders.autoencoder_kl", "transformers.models.clip.modeling_clip"):
        importlib.import_module(module)


def empty_unet(config: Mapping[str, Any]) -> nn.Module:
    """A UNet of these settings without numbers in it."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel.from_config(dict(config))


def empty_vae(config: Mapping[str, Any]) -> nn.Module:
    """An autoencoder of these settings without numbers in it."""
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        return AutoencoderKL.from_config(dict(config))


def empty_text_encoder(config: Mapping[str, Any], pooled: bool) -> nn.Module:
    """A text encoder of these settings without numbers in it, with a projection of the end token where it is used."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    for key in _TEXT_SIZES:
        if not isinstance(config.get(key, 1), int) or config.get(key, 1) < 1:
            raise ValueError(f"its settings say {key}: {config[key]!r}")
    if config.get("hidden_size", 512) % config.get("num_attention_heads", 8):
        raise ValueError(f"its settings spread a width of {config.get('hidden_size')} over {config.get('num_attention_heads')} heads")
    with torch.device("meta"):
        return (CLIPTextModelWithProjection if pooled else CLIPTextModel)(CLIPTextConfig(**dict(config)))


def fill(module: nn.Module, state: Mapping[str, Tensor], dtype: torch.dtype) -> nn.Module:
    """Give an empty network its numbers, copied in `dtype`; names beyond the network's are left out, a missing one is a KeyError. Raises Stopped."""
    wanted = module.state_dict()
    text = any(key.endswith("token_embedding.weight") for key in wanted)
    named = canonical(state) if text else state
    source = {key: named[text_name(key) if text else key] for key in wanted}
    read: dict[str, Tensor] = {}
    for key, tensor in source.items():
        raise_if_stopped()  # a window into a file is read here
        read[key] = tensor.to(dtype, copy=True).reshape(wanted[key].shape)
    module.load_state_dict(read, assign=True)
    for name, buffer in module.named_buffers():
        if buffer.is_meta:  # only the text encoders' position_ids, which no file holds
            owner = module.get_submodule(name.rpartition(".")[0])
            owner.register_buffer(name.rpartition(".")[2], torch.arange(buffer.shape[-1]).expand(buffer.shape), persistent=False)
    return module


def canonical(state: Mapping[str, Tensor]) -> State:
    """A text encoder's tensors with `text_model.` before their names, whatever wrote them."""
    return {text_name(key): tensor for key, tensor in state.items()}


def check(name: str, what: str, wanted: Shapes, given: Shapes, strict: bool = False) -> None:
    """Compare names and shapes of one network with what a file has; raises Unreadable naming the first that differ.

    `strict` refuses names the network has not. Trailing dimensions of one are not looked at: a 1x1 convolution is a matrix.
    """
    missing = [key for key in wanted if key not in given]
    if missing:
        raise Unreadable(f"{name} lacks {len(missing)} of the {len(wanted)} tensors of {what}: {_some(missing)}.", "It may be cut off or pruned too far; get it again.")
    wrong = next((key for key in wanted if _trimmed(wanted[key]) != _trimmed(given[key])), None)
    if wrong is not None:
        raise Unreadable(f"{name} holds {what} that does not fit together: {wrong} has the shape {tuple(given[wrong])}, and {tuple(wanted[wrong])} was expected.", "Get it again.")
    extra = [key for key in given if key not in wanted] if strict else []
    if extra:
        raise Unreadable(f"{name} holds {what} of a kind not known here, with {len(extra)} more tensors: {_some(extra)}.", "It may be made for another program.")


def _some(names: list[str]) -> str:
    """The first three names of a list."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the ones at its end."""
    shape = tuple(shape)
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Name to shape."""
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def guarded(name: str, what: str, make: Callable[[], Made]) -> Made:
    """What is made from a file's own settings and shapes; whatever cannot be built becomes Unreadable in words."""
    try:
        return make()
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError, ZeroDivisionError, AttributeError) as error:
        detail = f"it has no {error.args[0]}" if isinstance(error, KeyError) and error.args else (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise Unreadable(f"{name} holds no {what} that can be put together ({detail}).", "It may be cut off or pruned too far; get it again.") from error
