"""How fast and how long: rate and its shape, steps, batch, ranks, vectors, optimiser, for each case."""

from collections.abc import Callable, Iterator
from math import sqrt

from studio.presets.reason import Reason
from studio.presets.seen import EACH, Case, Choice, because, two_digits


def rate(case: Case) -> Iterator[Choice]:
    """The written rate and its reason."""
    if case.method == "textual_inversion":
        top = two_digits(0.005 * min(1.0, sqrt(2 / case.vectors)) * (0.5 if case.lean else 1.0))
        text = "Rate {value}: systems that work use 0.0005 to 0.005 with a falling rate and about 4 pictures a step; more vectors and SDXL's two encoders take less."
        yield because("learn_rate", f"{top:g}", text)
    elif case.small_networks:
        value = two_digits(1e-4 * case.rate_of_batch)
        text = "Rate {value}: 1e-4 is what sd-scripts' documents, kohya_ss, ai-toolkit and diffusers' README come to, times the square root of the batch (spacepxl)."
        yield because("learn_rate", f"{value:g}", text)
    elif case.method == "hypernetwork":
        yield because("learn_rate", "1e-5", "Rate {value}, A1111's own: a hypernetwork changes every attention at once and breaks at the rates of a word.")
    elif case.method == "dreambooth":
        yield because("learn_rate", "5e-6", "Rate {value}: diffusers' DreamBooth README, with the text encoder left as it is.")
    else:
        value = "1e-6" if case.lean else "2e-6"
        yield because("learn_rate", value, "Rate {value}: from 5e-6 to 1e-7 all reach the same place (spacepxl), SDXL's trainers write 4e-7 to 1e-5; a low one forgets less.")


def shape(case: Case) -> Iterator[Choice]:
    """How the rate falls, and the warm-up."""
    if case.whole_network:
        yield because("rate_shape", "constant", "The rate stays: diffusers' DreamBooth and the SDXL fine-tunes keep it constant.")
    else:
        yield because("rate_shape", "cosine", "The rate falls along a cosine, so that the last steps settle: sd-scripts' documents and invoke-training do so.")
    if case.method == "fine_tune":
        yield because("warmup", min(100, case.steps // 10), "{value} steps of warm-up: the optimiser has seen nothing yet, and whole networks are hurt by its first guesses.")


def length(case: Case) -> Iterator[Choice]:
    """Steps, and how many pictures each looks at."""
    values = {"looks": case.looks, "each": EACH, "count": case.pictures, "batch": case.images_per_step, "epochs": f"{two_digits(case.epochs):g}", "images": case.batching.epoch_images}
    if case.method == "textual_inversion":
        text = "{value} steps: {each} for each of {count} pictures, between 1500 and 3000 (invoke-training 2000, diffusers 3000)."
    elif case.whole_network and case.method == "dreambooth":
        text = "{value} steps: {each} for each of {count} pictures, from diffusers' 400 to 3000; the network learns a subject by heart soon after."
    else:
        text = "{value} steps at {batch} a step are {looks} looks: {each} for each of {count} pictures, as 20 pictures were best at 2000 (spacepxl), with a least and a most."
    if case.batching.epoch_images > case.pictures:
        text = "{value} steps at {batch} a step are {epochs} epochs of {images} images with repeats: {each} looks for each of {count} pictures, within limits; repeats only make epochs longer."
    yield because("steps", case.steps, text, **values)
    every = max(25, round(case.steps / 10 / 25) * 25)
    if case.whole_network:
        yield because("save_every", every * 10 // 3, "A copy every {value} steps: the best one usually comes before the end, but each takes gigabytes.")
    else:
        yield because("save_every", every, "A copy every {value} steps: the best one usually comes before the end, and it stays usable to about three times its steps (spacepxl).")
    yield because("preview_every", every, "A picture every {value} steps: about ten to compare.")


def batch(case: Case) -> Iterator[Choice]:
    """Pictures in one go, and goes before one change."""
    if case.lean or case.whole_network:
        yield because("batch_size", 1, "Batch 1: what an SDXL or a whole network leaves room for on a small card; a larger batch does not change quality (spacepxl).")
    elif case.batch == 1:
        yield because("batch_size", 1, "Batch 1: with {count} pictures a larger one shows the same ones together again and again.", count=case.pictures)
    else:
        yield because("batch_size", case.batch, "Batch {value}: the noise of a step falls with the square root of it, and batch 4 passes 3.5 pictures a second where batch 1 passes 2.4 (spacepxl).")
    if case.accumulation > 1:
        yield because("gradient_accumulation", case.accumulation, "{value} goes a step: a word settles at about 4 pictures a step, as diffusers and cloneofsimo have it, without their memory.")
    else:
        yield because("gradient_accumulation", 1, "One go a step: more pictures before each change do not make the result better (spacepxl).")


def memory(case: Case) -> Iterator[Choice]:
    """Optimiser and checkpointing, by what a card of 8 GB can hold."""
    if case.method == "textual_inversion":
        yield because("optimizer", "AdamW", "AdamW: what it remembers of a few vectors takes no memory, and A1111, diffusers and invoke-training use it for words.")
    elif case.lean or case.whole_network:
        yield because("optimizer", "Adafactor", "Adafactor remembers next to nothing, as SDXL's low-memory trainings use it; AdamW 8-bit ends a little lower (spacepxl), where an NVIDIA card has it.")
    else:
        yield because("optimizer", "AdamW", "AdamW: for small networks its memory is small, and Adafactor ended higher (spacepxl).")
    if case.lean or case.whole_network:
        yield because("gradient_checkpointing", True, "Gradient checkpointing: about a fifth slower, and what brings SDXL LoRA to 8 GB and SD1 DreamBooth to 16 GB.")
    else:
        yield because("gradient_checkpointing", False, "No gradient checkpointing: SD1 and SD2 fit without it, and it costs a fifth of the speed (invoke-training).")
    if case.method != "textual_inversion":
        yield because("clip_grad_mode", "norm", "Gradients are capped by their length: sd-scripts and diffusers do so unless they are told otherwise.")
        yield because("clip_grad_value", 1.0, "Capped at {value}: the default of sd-scripts and diffusers.")


def words(case: Case) -> Iterator[Choice]:
    """Vectors of an embedding, what they start from, and their own rate."""
    if not case.has_words:
        return
    text = "{value} vectors: 1 or 2 for an object, 4 to 8 for a person or a style, fewer where {count} pictures show little; over 16 the word learns whole pictures."
    start = {"person": "person", "object": "object", "style": "painting", "character": "character"}[case.intent]
    why = "It starts from {value}: a word that means nearly the same is half of the way; write a closer one, such as woman or teapot."
    beside = case.method == "textual_inversion"
    yield Choice("vectors", case.vectors, Reason(text, {"value": case.vectors, "count": case.pictures}), beside)
    yield Choice("initialization_text", start, Reason(why, {"value": start}), beside)
    if case.method == "together":
        value = 1e-3 if case.lean else 2e-3
        yield because("embedding_rate", value, "Words at {value}: diffusers' README and invoke-training's SDXL sample come to 0.002; two encoders take half.")
        yield because("order", "joint", "Both at once: the LoRA draws what the word begins to name (pivotal tuning, as diffusers does it).")
        yield because("words_end", case.steps // 2, "The word stops at step {value}, half of all: diffusers' train_text_encoder_ti_frac is 0.5; after that only the LoRA learns.")


def networks(case: Case) -> Iterator[Choice]:
    """Rank, alpha, layers, algorithm and the text encoder's rate."""
    if not (case.small_networks or case.whole_network):
        return
    yield from _text_encoder(case)
    if not case.small_networks:
        return
    rank = {"person": 16, "object": 8, "style": 32, "character": 16}[case.intent]
    if case.method == "dreambooth":
        yield because("rank", 32, "Rank {value}: room for a subject and its surroundings, as sd-scripts' document for SDXL has it.")
        return
    if case.method == "lycoris":
        rank = min(rank, 16)
        yield from _algorithm(case)
    yield because("rank", rank, "Rank {value}: 16 is what OneTrainer and sd-scripts' documents write; a thing needs less, a style more; LoHa should stay at 32 or below (LyCORIS).")
    yield because("alpha", rank / 2, "Alpha {value}, half of the rank: LyCORIS' author advises 1 to half; dividing it by k wants the rate times the square root of k.")
    yield because("layers", "attention+MLP", "Attention and the layers between: attention alone stays above a full fine-tune even at rank 128 (spacepxl), and OneTrainer filters the same.")
    if case.method == "lora" and case.intent != "style":
        yield because("conv_rank", 0, "No convolutions: they cost parameters for nothing (spacepxl).")
    elif case.intent == "style":
        yield because("conv_rank", 8, "Convolutions at rank {value}, half of ai-toolkit's 16: brushwork and texture are drawn there; set 0 to try without, as spacepxl measured no gain from them.")
        yield because("conv_alpha", 4.0, "Alpha {value} for the convolutions: half of their rank, as for the rest.")
    else:
        yield because("conv_rank", 0, "No convolutions: they cost parameters for nothing (spacepxl).")


def _text_encoder(case: Case) -> Iterator[Choice]:
    """The text encoder's rate."""
    if case.method == "together":
        yield because("text_encoder_rate", 0.0, "The text encoder stays: the word's vectors learn in its place.")
    elif case.lean:
        yield because("text_encoder_rate", 0.0, "The text encoders stay: OneTrainer's SDXL preset leaves them, and their outputs can be kept instead of the encoders (1.6 GB less).")
    elif case.whole_network:
        yield because("text_encoder_rate", 0.0, "The text encoder stays: with it DreamBooth needs 24 GB or more (diffusers), and it does not lower what can be reached (spacepxl).")
    elif case.intent == "style":
        yield because("text_encoder_rate", 1e-5, "Text encoder at {value}, the low end of sd-scripts' 1e-5 to 5e-5: a style is drawn by the UNet, and words should keep their meaning.")
    else:
        yield because("text_encoder_rate", 5e-5, "Text encoder at {value}, half of the UNet's rate: kohya_ss' presets; a new name has to be learned.")


def _algorithm(case: Case) -> Iterator[Choice]:
    """Which kin of LoRA."""
    if case.intent == "style":
        yield because("algorithm", "LoHa", "LoHa: two products of rank 16 multiplied hold rank 256 in a small file, which a style's many textures want.")
        return
    yield because("algorithm", "LoKr", "LoKr: a subject fits into its small matrices, and it took 3 h 40 to 5 h 10 where LoHa took 5 h 40 (LyCORIS' bench).")
    yield because("factor", 8, "Factor {value}: LyCORIS' author advises 4 to 8; the file becomes about a sixty-fourth of the network.")
    yield because("full_matrix", True, "The second matrix stays whole: what kohya's presets ask for with rank 100000; rank and alpha then do nothing.")


def hypernetwork(case: Case) -> Iterator[Choice]:
    """The build of a hypernetwork."""
    if case.method != "hypernetwork":
        return
    yield because("layer_structure", "1, 2, 1", "Layers {value}: A1111's own; wider ones learn few pictures by heart.")
    yield because("activation", "swish", "Activation {value}: without a bend two layers are no more than one matrix.")
    yield because("weight_init", "Normal", "Numbers begin near nothing (0.01), so that the first previews are the checkpoint's own.")
    if case.pictures < 30:
        yield because("dropout_structure", "0, 0.1, 0", "A tenth is dropped in the middle: with {count} pictures a hypernetwork otherwise learns them by heart.", count=case.pictures)


RULES: tuple[Callable[[Case], Iterator[Choice]], ...] = (rate, shape, length, batch, memory, words, networks, hypernetwork)
"""Every rule of this file."""
