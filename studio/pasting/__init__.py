"""From an infotext to the fields of a request and back, in A1111's form; pure text."""

from studio.pasting.facts import VERSION, facts_of
from studio.pasting.grammar import parameters, read_hashes, read_infotext, write_hashes, write_infotext
from studio.pasting.values import Lookup, lookup_in, request_values
from studio.requests.sampler_names import sampler_of

__all__ = ["VERSION", "Lookup", "facts_of", "lookup_in", "parameters", "read_hashes", "read_infotext", "request_values", "sampler_of", "write_hashes", "write_infotext"]
