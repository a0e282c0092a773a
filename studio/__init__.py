"""SD Training Studio: prepare pictures, train Stable Diffusion on them, and paint with the result."""

__version__ = "0.1.0"
