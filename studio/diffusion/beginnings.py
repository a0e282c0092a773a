"""What a new word begins as: the rows of words that a model knows."""

import torch
from torch import Tensor

from studio.diffusion.model import Model
from studio.diffusion.tokenizer import clip_tokenizer, tokens_of


def initial_vectors(model: Model, text: str, count: int) -> tuple[Tensor, str]:
    """Vectors [count, d] from the rows of the text's tokens, spread evenly (A1111), those of SDXL's two encoders side by side; empty text gives zeros. Also the part of the text that found no room."""
    ids = tokens_of(text)
    if not ids:
        return torch.zeros(count, model.width), ""
    taken = torch.tensor(ids[:count])
    tables = (encoder.get_input_embeddings().weight for encoder in model.text_encoders)
    rows = torch.cat([table[taken.to(table.device)].detach().float().cpu() for table in tables], 1)
    spread = torch.tensor([i * len(rows) // count for i in range(count)])
    return rows[spread].clone(), clip_tokenizer().decode(ids[count:]).strip()
