"""What a person should know about a prompt before it is painted, in sentences."""

import difflib
import re
from collections.abc import Collection, Mapping

from studio.errors import InputError
from studio.prompts.chunks import Chunker
from studio.prompts.networks import Network, networks
from studio.prompts.parts import parts, without_comments
from studio.prompts.words import fold, joined

KINDS = {"lora": "LoRA", "lyco": "LoRA", "hypernet": "hypernetwork"}
"""Kinds of extra networks that are understood, and what they are called."""
GUESSES = 5
_WORD = re.compile(r"\w[\w-]*")
_GROWTH = frozenset("0123456789_-")
"""What names grow by: step copies and versions."""


def problems(prompt: str, words: Mapping[str, str], known: Mapping[str, Collection[str]]) -> list[str]:
    """Sentences about a prompt, none when all is well: networks that do not exist, embeddings that cannot be used or are spelled alike, a weight for the whole prompt.

    `words` says of each embedding why it cannot be used with the chosen checkpoint ("" when it can); `known` holds the names of each kind of network.
    """
    text, found = networks(without_comments(prompt))
    sentences: list[str] = []
    shelves = {kind: {fold(name): name for name in known.get(kind, known.get("lora", ()) if label == "LoRA" else ())} for kind, label in KINDS.items()}
    for network in found:
        # Looking for a name that is nearly the same is slow, so only the first few are worth it.
        sentences += _of_network(network, shelves.get(network.kind), guessing=len(sentences) < GUESSES)
    chunker = Chunker(dict.fromkeys(words, 1))
    used = chunker.used(text)
    sentences += [f"{name}: {words[name]}" for name in used if words[name]]
    sentences += [_twins(name, spellings) for name in used if len(spellings := chunker.names.spellings[fold(name)]) > 1]
    sentences += _longer(text, words)
    joined = parts(text)
    if len(joined) == 1 and joined[0][1] != 1:
        sentences.append(f"The prompt ends in a colon and a number, so that all of it counts {joined[0][1]:g} times; put brackets around what should be weighed.")
    return list(dict.fromkeys(sentences))


def _of_network(network: Network, names: Mapping[str, str] | None, guessing: bool) -> list[str]:
    """What is wrong with one network; `names` are those of its kind without upper case, None for a kind that is not known."""
    if names is None:
        return [f"<{network.kind}:...> is no kind of network and is left out; there is <lora:name:1> and <hypernet:name:1>."]
    if fold(network.name) not in names:
        near = difflib.get_close_matches(fold(network.name[:100]), names, 1, 0.6) if guessing else []
        return [f"There is no {KINDS[network.kind]} called {network.name[:100]!r}{f'; did you mean {names[near[0]]!r}?' if near else '.'}"]
    try:
        _, _ = network.strengths
    except InputError as error:
        return [str(error)]
    return []


def _twins(name: str, spellings: list[str]) -> str:
    """Two embeddings that a prompt can only tell apart by upper and lower case."""
    return f"{' and '.join(spellings)} differ in upper and lower case alone; {name} was taken."


def _longer(text: str, words: Collection[str]) -> list[str]:
    """Names that begin a longer word, which is not them: `whatever-2000` is not `whatever-200`."""
    known = {fold(name): name for name in words}
    longest = max(map(len, known), default=0)
    sentences = []
    for word in dict.fromkeys(_WORD.findall(fold(text))):
        ends = range(min(len(word) - 1, longest), 0, -1)
        begun = next((known[word[:end]] for end in ends if word[end] in _GROWTH and word[:end] in known and joined(word[end - 1], word[end])), None)
        if begun is not None and word not in known:
            sentences.append(f"{word[:100]!r} is not the embedding {begun!r}: a name counts only as a word of its own.")
    return sentences
