"""Networks and sampling: what a checkpoint is, and how it paints."""
