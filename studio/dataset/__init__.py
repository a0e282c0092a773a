"""Pictures and words: what is in a folder, how it is cropped, and what is said about it; knows no network but its captioners."""
