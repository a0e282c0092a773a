"""Sentences about what a prompt names and does not get, in English with {places} to be filled; the page has each in its other languages."""

NEAR = "'{written}' in the prompt was not used as the embedding '{name}'. To use the embedding, write {form}"
EXTENSION = "'{written}': write the embedding as '{name}', without the file extension."
GROWN = "'{written}' is not the embedding '{name}': a name counts only as a word of its own."
TWINS = "{names} differ in upper and lower case alone; {name} was taken."
WHOLE = "The prompt ends in a colon and a number, so that all of it counts {weight} times; put brackets around what should be weighed."
NO_KIND = "<{kind}:...> is no kind of network and is left out; there is <lora:name:1> and <hypernet:name:1>."
NO_NETWORK = "There is no {kind} called '{name}'."
NO_NETWORK_NEAR = "There is no {kind} called '{name}'; did you mean '{near}'?"
MISSING = "There is no {kind} '{name}'; the picture was painted without it."
MISSING_NEAR = "There is no {kind} '{name}'; the picture was painted without it. Did you mean '{near}'?"
UNKNOWN_KIND = "<{kind}:{name}>: there is no kind of network called '{kind}'; it was left out."
NEGATIVE = "<{kind}:{name}> is in the negative prompt, where networks have no effect; it was read as text. Move it to the prompt."
WILDCARD = "'{written}' looks like a wildcard. Wildcards are not replaced here; it was read as text."
AMBIGUOUS = "Several {kind} files are called '{name}': {files}. '{taken}' was used; write <{tag}> to choose another."
AMBIGUOUS_EMBEDDING = "Several embeddings are called '{name}': {files}. '{taken}' was used; write {form} to use another."
BUNDLED_HALF = "The embedding '{name}' in the LoRA '{lora}' was left out: it has vectors for one text encoder of SDXL only ({part} is missing)."
BUNDLED_WIDTH = "The embedding '{name}' in the LoRA '{lora}' was left out: its vectors have width {width}, but {checkpoint} needs {needed}."
NO_PLACE = "{count} layers of the LoRA '{name}' found no place in {checkpoint} (the first: {layer})."

NOTICES: tuple[str, ...] = (
    NEAR,
    EXTENSION,
    GROWN,
    TWINS,
    WHOLE,
    NO_KIND,
    NO_NETWORK_NEAR,
    NO_NETWORK,
    MISSING_NEAR,
    MISSING,
    UNKNOWN_KIND,
    NEGATIVE,
    WILDCARD,
    AMBIGUOUS,
    AMBIGUOUS_EMBEDDING,
    BUNDLED_HALF,
    BUNDLED_WIDTH,
    NO_PLACE,
)
"""Every sentence, those with more fixed words before those that they begin like."""
