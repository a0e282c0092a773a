"""Settings to begin with: presets by intent, what a card can do, and settings taken over from other programs' files."""
