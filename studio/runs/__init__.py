"""Runs as folders: read, listed, compared and put away without torch; the worker writes them."""
