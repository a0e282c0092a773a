"""HTTP: the typed jobs API, and the server that carries the page."""
