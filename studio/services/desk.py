"""What a service works with: the folders and the loaded models."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from studio import shelves
from studio.diffusion.cache import ModelCache
from studio.errors import StudioError
from studio.formats.adapter import Adapter
from studio.formats.embedding import inner_name, read_embedding
from studio.formats.hashes import remembered_sha256
from studio.formats.hypernetwork import Hypernetwork
from studio.preferences import Preferences, current_preferences
from studio.prompts.words import Names, composed, fold, mentions, unescaped
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
        named = mentions(text)
        for name, path in self._embedding_files().items():
            if named(name):
                try:
                    found[name] = read_embedding(path).vectors
                except StudioError as error:
                    if any(Names([name]).find(composed(unescaped(text)))):
                        raise StudioError(f"The embedding {name!r} cannot be used: {error}", "Take its name out of the prompt, or mend the file.") from error
        found.update({name: vectors.detach() for name, vectors in self.live.items() if named(name)})
        return found

    def word_hashes(self, names: Iterable[str]) -> dict[str, str]:
        """Short hashes of embedding files, for the infotext; what is being trained has none."""
        files = self._embedding_files()
        return {name: remembered_sha256(files[name], self.paths.hashes)[:12] for name in names if name in files and name not in self.live}

    def embedding_names(self) -> list[str]:
        """Every name that a prompt may use for an embedding: of files, of what a picture's embedding is called inside, and of what is being trained."""
        return [*self._embedding_files(), *self.live]

    def _embedding_files(self) -> dict[str, Path]:
        """Embedding files by the names prompts use: the stem and, for a picture, also the name inside it, which is A1111's trigger; of two files with one name the first, stems first."""
        paths = shelves.embedding_files(self.paths)
        files: dict[str, Path] = {}
        for path in paths:
            files.setdefault(path.stem, path)
        taken = {fold(name) for name in files}
        for path in paths:
            inner = inner_name(path)
            if inner and fold(inner) not in taken:
                files.setdefault(inner, path)
        return files
