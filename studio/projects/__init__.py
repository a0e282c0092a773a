"""A data set as the room shows it: a folder of pictures that are only read, and a small database beside them with every decision and every word's history."""
