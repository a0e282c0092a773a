"""Ahead of a training: what it will take, measured on this machine, and what speaks against it."""

from studio.requests.train import MethodRequest
from studio.requests.unused_settings import SENTENCES as UNUSED


class ForecastRequest(MethodRequest):
    """Take a few steps that change nothing, and tell what the whole training will take."""


MISTAKE = "{mistake}"
UNNAMED = "None of the {count} training prompts holds {name}, so nothing can be learned."
HALF_NAMED = "Only {holding} of {count} training prompts hold {name}; the others teach it nothing."
UNCAPTIONED = "{count} of {pictures} images have no caption; their file names are used instead."
ENCODED = "Some captions aren't Unicode and are read as {encoding}."
LONG = "{count} of {total} training prompts are longer than 75 tokens; the longest takes {most}."
FEW = "There are {pictures} pictures, fewer than the {batch} that one step looks at, so each step shows some of them again."
PRODIGY_LOW = "Prodigy finds the rate itself and multiplies it with the learning rate, which is {rate}."
RATE_HIGH = "A learning rate of {rate} is far too high for {optimizer}: the vectors fly apart within a few steps."
LION_HIGH = "A learning rate of {rate} is high for Lion, which moves every number by all of it."
RATE_LOW = "A learning rate of {rate} is so low that the vectors hardly move in {steps} steps."
WARMING = "The warm-up of {warmup} steps is no shorter than the {steps} steps this training takes, so the written rate is never reached."
MANY_VECTORS = "{vectors} vectors for {pictures} pictures: so many learn the pictures by heart rather than what they have in common."
FULL_PROMPT = "The {vectors} vectors take {vectors} of a prompt's 75 places."
NO_MASKS = "Masks are wanted, but none of the {count} pictures that were looked at has one."
SPACE = "The disk has {free} GB left, and this training writes about {needed} GB."
COMPILE = "Compiling the network helps on an NVIDIA card only; this training runs on {device} and leaves it out."
UNREAD = "{count} of {pictures} pictures cannot be read and are left out. The first: {reason}"

FIXES: dict[str, str] = {
    MISTAKE: "",
    UNNAMED: "Choose a template with [name] in its lines.",
    HALF_NAMED: "Put [name] into every line of the template.",
    UNCAPTIONED: "Write captions in the data set room, or choose a template without [filewords].",
    ENCODED: "If that is wrong, choose another encoding under Check in the data set room.",
    LONG: "Shorten captions, or let tags drop out.",
    FEW: "Lower the batch size or the accumulation, or add pictures.",
    PRODIGY_LOW: "Write 1.",
    RATE_HIGH: "Write 0.005, or less.",
    LION_HIGH: "Write 0.0005 to 0.002.",
    RATE_LOW: "Write 0.005 to begin with.",
    WARMING: "Write a tenth of the steps, or 0.",
    MANY_VECTORS: "Create the embedding with fewer vectors, or add pictures.",
    FULL_PROMPT: "Create the embedding with fewer vectors, such as 1 to 8.",
    NO_MASKS: "Paint masks in the data set room, or switch them off.",
    SPACE: "Make room, or keep fewer copies and previews.",
    COMPILE: "",
    **dict.fromkeys(UNUSED, ""),
    UNREAD: "Mend them in the data set room, or take them out.",
}
"""Every sentence about a problem, in English with {places}, and what mends it; the page has both in its other languages."""
SEVERITIES: dict[str, str] = {MISTAKE: "problem", UNNAMED: "problem", RATE_HIGH: "problem", SPACE: "problem", COMPILE: "hint", UNREAD: "hint"}
"""A problem keeps a training from starting or makes it useless, a hint is good to know; what is not here is a warning."""
