"""Extra networks in a prompt: `<lora:name:1>`, `<hypernet:name:0.5>`, with block weights and strengths by name."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from studio.errors import InputError

_NETWORK = re.compile(r"<(\w+):([^>]+)>")


@dataclass(frozen=True)
class Network:
    """One extra network as the prompt asks for it: its kind ("lora", "hypernet"), what stands between colons, and what is given by name."""

    kind: str
    args: tuple[str, ...]
    named: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Which file is meant; empty when the prompt does not say."""
        return self.args[0].strip() if self.args else ""

    @property
    def tag(self) -> str:
        """The network as a prompt writes it."""
        return f"<{self.kind}:{':'.join([*self.args, *(f'{key}={value}' for key, value in self.named.items())])}>"

    @property
    def strengths(self) -> tuple[float, float]:
        """How strongly it acts on the text encoder and on the UNet: `<lora:name:te:unet>` or te= and unet=; one number means both. Raises InputError on what is no number."""
        te = self._number(self.named.get("te", self.args[1] if len(self.args) > 1 else "1"))
        unet = self.named.get("unet", self.args[2] if len(self.args) > 2 else None)
        return te, te if unet is None else self._number(unet)

    @property
    def blocks(self) -> str:
        """Block weights as they were written after lbw=; empty when there are none."""
        return self.named.get("lbw", "")

    def _number(self, text: str) -> float:
        """A strength."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"The strength {text.strip()[:40]!r} of <{self.kind}:{self.name[:60]}> is no number.", f"Write it as <{self.kind}:{self.name[:60]}:0.8>.")
        return value


def networks(text: str) -> tuple[str, list[Network]]:
    """A prompt without its extra networks, and these in the order they stand; `<a-b:c>` and `< lora:x>` are text."""
    return marked(text, lambda _: "")


def marked(text: str, mark: Callable[[Network], str]) -> tuple[str, list[Network]]:
    """A prompt with a mark in the place of each extra network, and the networks."""
    found: list[Network] = []

    def take(match: re.Match[str]) -> str:
        found.append(_network(match.group(1), match.group(2)))
        return mark(found[-1])

    # Nothing behind the last > can match; searching there would begin anew at every <.
    end = text.rfind(">") + 1
    return _NETWORK.sub(take, text[:end]) + text[end:], found


def _network(kind: str, body: str) -> Network:
    """What stands between the angle brackets: `key=value` goes by name, all else by place."""
    args: list[str] = []
    named: dict[str, str] = {}
    for item in body.split(":"):
        key, equals, value = item.partition("=")
        if equals and "=" not in value:
            named[key.strip()] = value
        else:
            args.append(item)
    return Network(kind, tuple(args), named)
