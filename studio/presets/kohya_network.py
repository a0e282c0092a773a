"""kohya's and LyCORIS's networks as ours: algorithm, ranks, layers, weights of blocks."""

from collections.abc import Mapping, Sequence
from typing import Any

from studio.presets.taking import DIFFERS, LEFT_OUT, Taken, empty, flag, number, shown, whole

ALGORITHMS = {"locon": "LoCon", "lora": "LoCon", "loha": "LoHa", "lokr": "LoKr", "ia3": "(IA)3"}
"""LyCORIS's name of an algorithm and ours."""
LAYERS = {"attn-only": "attention", "attn-mlp": "attention+MLP", "unet-transformer-only": "attention+MLP", "full": "full", "full-lin": "full"}
"""LyCORIS's presets of layers and ours."""
_WHOLE_RANK = 10_000
"""From here on LyCORIS leaves LoKr's second matrix whole."""
_PARTS = {25: (12, 1, 12), 19: (9, 1, 9)}


def take_network(taken: Taken, args: Mapping[str, Any], network: Mapping[str, Any]) -> None:
    """Everything about the small networks; nothing for methods that have none."""
    if taken.method not in ("lora", "lycoris"):
        return
    _kind(taken, args)
    if taken.method == "lycoris":
        _algorithm(taken, network)
    _ranks(taken, args, network)
    for name, knob in (("rank_dropout", "rank_dropout"), ("module_dropout", "module_dropout"), ("loraplus_lr_ratio", "plus_ratio"), ("loraplus_unet_lr_ratio", "plus_ratio")):
        value = number(network.get(name))
        if value:
            taken.put(knob, value, name)
    dropout = number(network.get("dropout", args.get("network_dropout")))
    if dropout:
        taken.put("dropout", dropout, "network_dropout")
    if flag(network.get("dora_wd")):
        taken.put("dora", True, "dora_wd")
    _layers(taken, network)
    _blocks(taken, network, int(taken.values.get("rank", 1)))


def _kind(taken: Taken, args: Mapping[str, Any]) -> None:
    """A network of kohya's that a plain LoRA takes the place of is named."""
    module, kind = str(args.get("network_module") or ""), str(args.get("LoRA_type") or "")
    if kind in ("LoRA-FA", "Kohya DyLoRA"):
        taken.say(DIFFERS, label="LoRA_type", value=kind, ours="LoRA")
    elif taken.method == "lora" and module and module.rpartition(".")[2] != "lora" and "locon" not in module:
        taken.say(DIFFERS, label="network_module", value=shown(module), ours="LoRA")


def _algorithm(taken: Taken, network: Mapping[str, Any]) -> None:
    """Which kin of LoRA; one we do not have is said and left to the form."""
    name = str(network.get("algo", "lora")).lower()
    if name in ALGORITHMS:
        taken.put("algorithm", ALGORITHMS[name], "algo")
    else:
        taken.say("The algorithm {value} cannot be trained here; choose LoCon, LoHa, LoKr or (IA)3.", value=shown(name))
    factor = whole(network.get("factor"))
    if factor is not None and name == "lokr":
        taken.put("factor", factor, "factor")
    if any(flag(network.get(key)) for key in ("use_tucker", "use_cp", "use_conv_cp")):
        taken.put("tucker", True, "use_tucker")
    if network.get("train_on_input") is not None and name == "ia3" and not flag(network["train_on_input"]):
        taken.say(LEFT_OUT, label="train_on_input", value="off")


def _ranks(taken: Taken, args: Mapping[str, Any], network: Mapping[str, Any]) -> None:
    """Rank and alpha of the layers and of convolutions; an alpha that is not written is the rank at LyCORIS and 1 at kohya."""
    rank = whole(args.get("network_dim"))
    if rank is None and not empty(args.get("network_module")):
        rank = 4
        taken.say("No rank is written; kohya's trainer takes 4.")
    if rank is not None and rank >= _WHOLE_RANK and taken.method == "lycoris":
        taken.put("full_matrix", True, "network_dim")
        taken.say("A rank of {value} means that LoKr's second matrix stays whole: switched on, and the rank is left as it is.", value=rank)
        rank = None
    if rank:
        taken.put("rank", rank, "network_dim")
        alpha = number(args.get("network_alpha"))
        taken.put("alpha", 1.0 if alpha is None else float(alpha), "network_alpha")
        if alpha == 0:
            taken.say("An alpha of 0 is the rank, at kohya's trainer as here.")
    conv, conv_alpha = whole(network.get("conv_dim")), number(network.get("conv_alpha"))
    if conv and conv >= _WHOLE_RANK:
        conv = whole(taken.values.get("rank", 16))
        taken.say("Convolutions were whole (rank {value}); here LoKr's full matrix covers them.", value=network["conv_dim"])
    if conv:
        taken.put("conv_rank", conv, "conv_dim")
        taken.put("conv_alpha", 1.0 if conv_alpha is None else float(conv_alpha), "conv_alpha")
    elif taken.method == "lycoris" and not empty(network):
        taken.put("conv_rank", 0)


def _layers(taken: Taken, network: Mapping[str, Any]) -> None:
    """Which layers it has: kohya's own network takes attention and what lies between, LyCORIS all unless a preset says otherwise."""
    if taken.method == "lora":
        taken.put("layers", "attention+MLP")
        return
    preset = network.get("preset", "full")
    if str(preset) not in LAYERS:
        taken.say(LEFT_OUT, label="preset", value=shown(preset))
        return
    taken.put("layers", LAYERS[str(preset)], "preset")
    if preset == "unet-transformer-only":
        taken.put("text_encoder_rate", 0.0)


def _blocks(taken: Taken, network: Mapping[str, Any], rank: int) -> None:
    """Ranks and rates of blocks: kohya's lists begin at the first block, ours at the text encoder."""
    rates = [_numbers(network.get(key)) for key in ("down_lr_weight", "mid_lr_weight", "up_lr_weight")]
    if any(not empty(network.get(key)) for key in ("down_lr_weight", "mid_lr_weight", "up_lr_weight")):
        joined = [value for part in rates if part for value in part]
        if all(rates) and len(joined) in _PARTS and tuple(len(part) for part in rates if part) == _PARTS[len(joined)]:
            _put_blocks(taken, "block_rates", joined)
        else:
            taken.say(LEFT_OUT, label="down_lr_weight, mid_lr_weight, up_lr_weight", value=shown([network.get(k) for k in ("down_lr_weight", "mid_lr_weight", "up_lr_weight")]))
    if not empty(network.get("block_dims")):
        dims = _numbers(network["block_dims"])
        if dims and len(dims) in _PARTS:
            _put_blocks(taken, "block_ranks", [value / max(rank, 1) for value in dims])
        else:
            taken.say(LEFT_OUT, label="block_dims", value=shown(network["block_dims"]))


def _put_blocks(taken: Taken, knob: str, values: Sequence[float]) -> None:
    """A list of blocks with the text encoder, which kohya leaves at 1, before it."""
    if taken.put(knob, ", ".join(f"{value:.4g}" for value in (1.0, *values)), knob):
        taken.say("{count} blocks were written; here the text encoder comes before them, at 1.", count=len(values))


def _numbers(written: Any) -> list[float] | None:
    """Numbers between commas, or one; None when anything else stands there."""
    parts = list(written) if isinstance(written, list | tuple) else str(written).split(",")
    found = [number(part) for part in parts]
    return None if empty(written) or any(value is None for value in found) else [value for value in found if value is not None]
