"""Files of the field to and from tensors and facts; knows no network."""
