"""What a service works with: the folders and the loaded models."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from studio import shelves
from studio.diffusion.cache import ModelCache
from studio.errors import StudioError
from studio.formats.adapter import Adapter
from studio.formats.embedding import read_embedding
from studio.formats.hashes import remembered_sha256
from studio.formats.hypernetwork import Hypernetwork
from studio.preferences import Preferences, current_preferences
from studio.settings import Paths
from studio.training.several import ALONE, Team


@dataclass(frozen=True)
class Desk:
    """One per worker; what is being trained is live, by name: the vectors of an embedding, and what gives a LoRA or a hypernetwork as it is now. `team` is who trains together."""

    paths: Paths
    cache: ModelCache
    live: dict[str, Tensor] = field(default_factory=dict)
    live_adapters: dict[str, Callable[[], Adapter]] = field(default_factory=dict)
    live_hypernetworks: dict[str, Callable[[], Hypernetwork]] = field(default_factory=dict)
    team: Team = ALONE

    def preferences(self) -> Preferences:
        """What a person has set, as it is now; raises StudioError when settings.json is damaged."""
        return current_preferences(self.paths.settings)

    def words(self, text: str) -> Mapping[str, Tensor]:
        """Embeddings whose name stands in a text, by name; live vectors before files. Raises StudioError for a damaged one."""
        found: dict[str, Tensor] = {}
        lower = text.lower()
        for path in shelves.embedding_files(self.paths):
            if path.stem.lower() in lower and path.stem not in found:
                try:
                    found[path.stem] = read_embedding(path).vectors
                except StudioError as error:
                    if self._stands_alone(path.stem, lower):
                        raise StudioError(f"The embedding {path.stem!r} cannot be used: {error}", "Take its name out of the prompt, or mend the file.") from error
        found.update({name: vectors.detach() for name, vectors in self.live.items() if name.lower() in lower})
        return found

    def word_hashes(self, names: Iterable[str]) -> dict[str, str]:
        """Short hashes of embedding files, for the infotext; what is being trained has none."""
        files = {path.stem: path for path in shelves.embedding_files(self.paths)}
        return {name: remembered_sha256(files[name], self.paths.hashes)[:12] for name in names if name in files and name not in self.live}

    @staticmethod
    def _stands_alone(name: str, text: str) -> bool:
        """Whether a name stands in a text as a whole word."""
        import re

        return re.search(rf"(?<![\w-]){re.escape(name.lower())}(?![\w-])", text) is not None
