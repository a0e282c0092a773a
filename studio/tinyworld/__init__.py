"""The tiny world: a small Stable Diffusion that ships inside, and the world it knows."""
