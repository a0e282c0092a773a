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
from studio.prompts.notices import AMBIGUOUS_EMBEDDING
from studio.prompts.words import Names, composed, escaped, fold, mentions, unescaped
from studio.settings import Paths
from studio.training.several import ALONE, Team

SHOWN = 5
"""Files of one name that are listed."""


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

    def ambiguous(self, names: Iterable[str]) -> list[str]:
        """Sentences about embeddings of these names that have a namesake in another folder or of another kind of file: which one is used, and how to write the other."""
        files = shelves.embedding_names(self.paths)
        sentences = []
        for name in names:
            alike = {other: path for other, path in files.items() if composed(path.stem) == composed(name)}
            if name in alike and name not in self.live and len(alike) > 1:
                listed = [path.relative_to(self.paths.embeddings).as_posix() for path in alike.values()]
                other = next(each for each in alike if each != name)
                sentences.append(AMBIGUOUS_EMBEDDING.format(name=name, files=", ".join(listed[:SHOWN]), taken=alike[name].relative_to(self.paths.embeddings).as_posix(), form=escaped(other)))
        return sentences

    def embedding_names(self) -> list[str]:
        """Every name that a prompt may use for an embedding: of files, of what a picture's embedding is called inside, and of what is being trained."""
        return [*self._embedding_files(), *self.live]

    def _embedding_files(self) -> dict[str, Path]:
        """Embedding files by the names prompts use: the stem (of several the first has it) or the path and, for a picture, also the name inside it, which is A1111's trigger."""
        files = shelves.embedding_names(self.paths)
        taken = {fold(name) for name in files}
        for path in list(files.values()):
            inner = inner_name(path)
            if inner and fold(inner) not in taken:
                files.setdefault(inner, path)
        return files
