"""The prompt language as the makers use it: what `studio.prompts` reads, in the order in which it is read."""

from studio.prompts.attention import BREAK, attention

__all__ = ["BREAK", "attention"]
