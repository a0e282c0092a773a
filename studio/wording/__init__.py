"""Errors in a person's language: they are raised in English, and shown in Chinese where a person reads Chinese."""

from studio.wording.translate import LABELS, READER, for_reader, language, localized

__all__ = ["LABELS", "READER", "for_reader", "language", "localized"]
