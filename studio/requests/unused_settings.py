"""Settings of a training that have no effect together with the others: what a person has changed and what would otherwise be ignored silently."""

from collections.abc import Callable, Sequence
from typing import Any

from studio.config import controls
from studio.presets.reason import Reason
from studio.requests.train import TrainConfig

Rule = tuple[tuple[str, ...], Callable[[dict[str, Any]], bool], str]
RULES: tuple[Rule, ...] = (
    (("dora", "tucker", "rank", "alpha", "conv_alpha", "plus_ratio"), lambda c: c.get("algorithm") == "(IA)3", "(IA)3 has no ranks"),
    (("factor", "full_matrix"), lambda c: c.get("algorithm") in ("LoCon", "LoHa", "(IA)3"), "only LoKr has it"),
    (("conv_alpha", "tucker"), lambda c: c.get("conv_rank") == 0, "no convolution is trained, since their rank is 0"),
    (("prior_loss_weight", "class_prompt"), lambda c: c.get("prior") == "none", "there is no prior preservation"),
    (("class_pictures",), lambda c: c.get("prior") in ("none", "prediction"), "no class pictures are painted"),
    (("mask_floor",), lambda c: not c["use_masks"], "masks are not used"),
    (("clip_grad_value",), lambda c: c["clip_grad_mode"] == "disabled", "gradients are not clipped"),
    (("patience",), lambda c: c["stop_rule"] != "patience", "the rule that stops the training is another"),
    (("rank",), lambda c: c.get("result") == "checkpoint", "a whole checkpoint is trained"),
    (("ema_decay", "save_folder"), lambda c: c.get("result") == "LoRA", "a LoRA is trained"),
    (("switch",), lambda c: c.get("order") == "joint", "both learn at once"),
    (("block_rates", "plus_ratio", "embedding_rate"), lambda c: c["optimizer"] == "Prodigy", "Prodigy finds one rate for everything that learns"),
)
"""Settings, when they have no effect (by the values of the form), and why."""
OF_CAPTIONS = ("shuffle_tags", "drop_out_tags", "caption_dropout")
"""Settings that change captions, which a template without [filewords] does not use."""


NO_EFFECT = "{{label}} has no effect: {why}."
ONLY_ON = "{label} {rate} only switches the text encoder on: Prodigy finds one rate for everything that learns."
NO_FILEWORDS = "the prompt template has no [filewords]"
SENTENCES = (*dict.fromkeys(NO_EFFECT.format(why=why) for why in (*(why for _, _, why in RULES), NO_FILEWORDS)), ONLY_ON)
"""Every sentence, with places for the setting's label and its value."""


def unused_settings(config: TrainConfig, lines: Sequence[str] = ()) -> list[Reason]:
    """A sentence for each setting that is not at its default and has no effect; `lines` are those of the prompt template, where they are known."""
    values, titles = config.model_dump(), {control.name: control.label for control in controls(type(config))}
    rules = [*RULES, (OF_CAPTIONS, lambda _: bool(lines) and not any("[filewords]" in line for line in lines), NO_FILEWORDS)]
    found: dict[str, Reason] = {}
    for names, idle, why in rules:
        for name in names:
            if name in values and values[name] != type(config).model_fields[name].default and idle(values):
                found.setdefault(name, Reason(NO_EFFECT.format(why=why), {"label": titles[name]}))
    rate = values.get("text_encoder_rate")
    if config.optimizer == "Prodigy" and rate and rate != max(config.rates):
        found["text_encoder_rate"] = Reason(ONLY_ON, {"label": titles["text_encoder_rate"], "rate": f"{rate:g}"})
    return list(found.values())
