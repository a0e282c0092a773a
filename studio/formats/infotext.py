"""A1111's infotext, "Steps: 20, Sampler: ...": its form, and the pictures that carry it."""

from studio.formats.carriers import CHUNK, FORMATS, infotext_of, png_info, read_carrier, write_picture
from studio.pasting.grammar import read_hashes, read_infotext, write_hashes, write_infotext

__all__ = ["CHUNK", "FORMATS", "infotext_of", "png_info", "read_carrier", "read_hashes", "read_infotext", "write_hashes", "write_infotext", "write_picture"]
