"""What a person should know about a prompt before it is painted, in sentences."""

import difflib
import re
from collections.abc import Collection, Mapping

from studio.errors import InputError
from studio.prompts.chunks import Chunker
from studio.prompts.near import near_misses
from studio.prompts.networks import Network, networks
from studio.prompts.notices import GROWN, NEGATIVE, NO_KIND, NO_NETWORK, NO_NETWORK_NEAR, TWINS, WHOLE, WILDCARD
from studio.prompts.parts import parts, without_comments
from studio.prompts.words import fold, joined

KINDS = {"lora": "LoRA", "lyco": "LoRA", "hypernet": "hypernetwork"}
"""Kinds of extra networks that are understood, and what they are called."""
GUESSES = 5
_WORD = re.compile(r"\w[\w-]*")
_WILDCARD = re.compile(r"__[^\W_][\w./*-]*?__(?!\w)")
_GROWTH = frozenset("0123456789_-")
"""What names grow by: step copies and versions."""


def problems(prompt: str, words: Mapping[str, str], known: Mapping[str, Collection[str]], negative: bool = False) -> list[str]:
    """Sentences about a prompt, none when all is well: networks that do not exist, embeddings that cannot be used or are missed by their spelling, wildcards, a weight for the whole prompt.

    `words` says of each embedding why it cannot be used with the chosen checkpoint ("" when it can); `known` holds the names of each kind of network. In a negative prompt networks are text.
    """
    plain = without_comments(prompt)
    text, found = networks(plain)
    sentences: list[str] = []
    if negative:
        sentences, text = in_negative(plain), plain
    else:
        shelves = {kind: {fold(name): name for name in known.get(kind, known.get("lora", ()) if label == "LoRA" else ())} for kind, label in KINDS.items()}
        for network in found:
            # Looking for a name that is nearly the same is slow, so only the first few are worth it.
            sentences += _of_network(network, shelves.get(network.kind), guessing=len(sentences) < GUESSES)
    chunker = Chunker(dict.fromkeys(words, 1))
    used = chunker.used(text)
    sentences += [f"{name}: {words[name]}" for name in used if words[name]]
    sentences += [_twins(name, spellings) for name in used if len(spellings := chunker.names.spellings[fold(name)]) > 1]
    sentences += missed(text, words, used)
    joined = [] if negative else parts(text)
    if len(joined) == 1 and joined[0][1] != 1:
        sentences.append(WHOLE.format(weight=f"{joined[0][1]:g}"))
    return list(dict.fromkeys(sentences))


def used_in(text: str, names: Collection[str]) -> tuple[str, ...]:
    """Names of the embeddings that a prompt without networks names, in the order they first appear."""
    return Chunker(dict.fromkeys(names, 1)).used(text)


def missed(text: str, names: Collection[str], used: Collection[str]) -> list[str]:
    """Sentences about embeddings that a prompt without networks nearly names, and about wildcards, which are text here; `used` are the embeddings that it does name."""
    grown = _longer(text, names)
    told = {name for _, name in grown}
    sentences = [GROWN.format(written=word[:100], name=name) for word, name in grown]
    sentences += near_misses(text, [name for name in names if name not in told], used)
    return sentences + [WILDCARD.format(written=match[:100]) for match in dict.fromkeys(_WILDCARD.findall(text)) if not any(match in name for name in names)][:GUESSES]


def in_negative(text: str) -> list[str]:
    """Sentences about networks in a negative prompt, where they are text, as in A1111."""
    return list(dict.fromkeys(NEGATIVE.format(kind=one.kind, name=one.name[:100]) for one in networks(text)[1] if one.kind in KINDS))


def _of_network(network: Network, names: Mapping[str, str] | None, guessing: bool) -> list[str]:
    """What is wrong with one network; `names` are those of its kind without upper case, None for a kind that is not known."""
    if names is None:
        return [NO_KIND.format(kind=network.kind)]
    if fold(network.name) not in names:
        near = nearest(network.name, names) if guessing else None
        return [(NO_NETWORK_NEAR if near else NO_NETWORK).format(kind=KINDS[network.kind], name=network.name[:100], near=near)]
    try:
        _, _ = network.strengths
    except InputError as error:
        return [str(error)]
    return []


def nearest(name: str, names: Mapping[str, str]) -> str | None:
    """The name that is most like one that is not there, None when none is; `names` by their form without upper case."""
    near = difflib.get_close_matches(fold(name[:100]), names, 1, 0.6)
    return names[near[0]] if near else None


def _twins(name: str, spellings: list[str]) -> str:
    """Two embeddings that a prompt can only tell apart by upper and lower case."""
    return TWINS.format(names=" and ".join(spellings), name=name)


def _longer(text: str, words: Collection[str]) -> list[tuple[str, str]]:
    """Words that a name begins, which are not it, with the name: `whatever-2000` is not `whatever-200`."""
    known = {fold(name): name for name in words}
    longest = max(map(len, known), default=0)
    found = []
    for word in dict.fromkeys(_WORD.findall(fold(text))):
        ends = range(min(len(word) - 1, longest), 0, -1)
        begun = next((known[word[:end]] for end in ends if word[end] in _GROWTH and word[:end] in known and joined(word[end - 1], word[end])), None)
        if begun is not None and word not in known:
            found.append((word, begun))
    return found
