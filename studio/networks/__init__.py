"""Cards of LoRA files, hypernetworks and embeddings: what their headers say, what a person noted beside them, and what can be done with them; needs no torch."""
