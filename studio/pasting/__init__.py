"""From an infotext to the fields of a request and back, in A1111's form; pure text."""

from studio.pasting.grammar import parameters, read_hashes, read_infotext, shown, size_of, write_hashes, write_infotext

__all__ = ["parameters", "read_hashes", "read_infotext", "shown", "size_of", "write_hashes", "write_infotext"]
