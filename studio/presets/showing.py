"""What is shown and how it counts: template, captions, flip, resolution, loss, prior preservation, preview prompts, for each case."""

from collections.abc import Callable, Iterator

from studio.presets.seen import Case, Choice, because

PREVIEWS = {
    "person": "a photo of [name]\na portrait of [name] in a red coat, in the snow",
    "object": "a photo of [name]\na photo of [name] on a beach",
    "style": "a house by a lake, [name]\na portrait of a woman, [name]",
    "character": "[name]\n[name] sitting in a cafe, smiling",
}
"""Prompts of the previews by intent: one near the pictures, one far from them."""
RESOLUTION = {"SD1": 512, "SD2": 768, "SDXL": 1024}
"""Pixels each family was made for; SD2's base of 512 says so itself."""


def prompts(case: Case) -> Iterator[Choice]:
    """The template of training prompts, and how captions change."""
    kind = "style" if case.intent == "style" else "subject"
    if case.captions:
        yield because("template", f"{kind}_filewords", "Template {value}: captions that name what changes keep the background out of what is learned (A1111, OneTrainer).")
        yield because("caption_dropout", 0.05, "The caption is left out one time in twenty, so that the word alone is enough; ai-toolkit's 0.05.")
    else:
        yield because("template", kind, "Template {value}: the pictures have no captions; templates alone bind the background to the word, so captions are worth writing.")
        yield because("caption_dropout", 0.0, "There are no captions to leave out.")
    if case.intent == "character":
        yield because("shuffle_tags", case.captions, "Tags come in a new order each time, so that no place in the prompt matters; characters are captioned with tags.")
    else:
        yield because("shuffle_tags", False, "Captions are sentences here, and sentences that are shuffled mean nothing; switch it on for tags.")


def pictures(case: Case) -> Iterator[Choice]:
    """Flip, buckets and size."""
    if case.intent in ("person", "character"):
        yield because("flip", False, "No mirror images: faces, hair and clothes have a side, and a mirrored face is another face.")
    elif case.intent == "style" or case.pictures < 10:
        yield because("flip", True, "Mirror images show twice as many pictures, as diffusers' training of words does; switch it off where there is writing.")
    else:
        yield because("flip", False, "No mirror images: {count} pictures show enough, and labels and handles have a side.", count=case.pictures)
    yield because("buckets", True, "Pictures keep their shape, as kohya's trainer has it: nothing is stretched and little is cut off.")
    size = RESOLUTION[case.family]
    text = "The checkpoint's own size ({size} for {family}): smaller saves memory and loses detail, larger was never learned."
    for side in ("width", "height"):
        yield because(side, 0, text, size=size, family=case.family)


def loss(case: Case) -> Iterator[Choice]:
    """How noise levels count, and what clip skip must match."""
    yield because("min_snr_gamma", 5.0, "Min-SNR {value}: the paper's own value and invoke-training's; noise levels stop drowning each other.")
    if case.intent == "style":
        yield because("noise_offset", 0.035, "Noise offset {value}: kohya_ss' presets have 0.0357 to 0.0375; a style's darks and lights are part of it.")
    else:
        yield because("noise_offset", 0.0, "No noise offset: it shifts contrast, which is nothing of the subject.")
    if case.family == "SD1" and case.intent == "character":
        yield because("clip_skip", 2, "Clip skip {value}: drawn characters are painted with anime checkpoints, which were trained so; write 1 for a photographic one.")
    else:
        yield because("clip_skip", 1, "Clip skip {value}: as the base is used; only anime checkpoints of SD1 want 2.")


def prior(case: Case) -> Iterator[Choice]:
    """What keeps the class as it was."""
    word = {"person": "person", "object": "object", "character": "character", "style": ""}[case.intent]
    if word:
        yield because("class_word", word, "Class word {value}: what it is, so that it learns the difference only; write a closer one, such as woman or teapot.")
    if case.method == "dreambooth":
        yield because("result", "LoRA" if case.lean else "checkpoint", "Into a {value}: on SDXL a whole checkpoint needs 10 to 24 GB, a LoRA 8; on SD1 and SD2 16 GB hold the whole.")
    if case.method != "dreambooth" or not word:
        yield because("prior", "none", "No prior preservation: a file that is put on and off leaves the class as it was, and a style has no class.")
        return
    if case.lean:
        yield because("prior", "prediction", "The class is kept by what the untouched network says: it is there under the LoRA, and no pictures have to be painted.")
    else:
        yield because("prior", "class pictures", "The class is kept by pictures of it, as in the paper: a second network to ask would not fit beside the first.")
        yield because("class_pictures", 200, "{value} class pictures: diffusers' DreamBooth README; they are painted once and used again.")
    yield because("prior_loss_weight", 1.0, "Both count the same: weight {value} in the paper and in diffusers.")


def whole(case: Case) -> Iterator[Choice]:
    """Which layers a fine-tune moves, and its average."""
    if case.method != "fine_tune":
        return
    if case.lean:
        yield because("trained_layers", "attention", "Attention alone: the gradients of a whole SDXL take 5 GB in half precision, those of its attention far less.")
    else:
        yield because("trained_layers", "all", "The whole UNet: 24 GB hold it with checkpointing (diffusers); choose attention on a smaller card.")
    if case.steps >= 10_000 and not case.lean:
        yield because("ema_decay", 0.9999, "A running average of {value}: over {steps} steps it is steadier than any single step; it costs one more copy of the weights.", steps=case.steps)
    else:
        yield because("ema_decay", 0.0, "No running average: it costs one more copy of the weights, and {steps} steps are short.", steps=case.steps)


def previews(case: Case) -> Iterator[Choice]:
    """Prompts of the previews."""
    yield because("preview_prompt", PREVIEWS[case.intent], "Two previews: one near the pictures shows likeness, one far from them shows whether it still listens.")


RULES: tuple[Callable[[Case], Iterator[Choice]], ...] = (prompts, pictures, loss, prior, whole, previews)
"""Every rule of this file."""
