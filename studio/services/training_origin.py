"""Where a training's result comes from, as its files say it."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from studio.dataset.batches import Sample
from studio.diffusion.model import Model
from studio.formats.provenance import Provenance
from studio.presets.importing import PRIVATE, SETTINGS
from studio.projects.kohya import folder_repeats
from studio.requests.train import NamedConfig, TrainConfig
from studio.services.encoding import size_of
from studio.training.passes import Prior
from studio.training.run import Run


@dataclass(frozen=True)
class Origin:
    """Says at each step what there is to say of a run's result."""

    config: TrainConfig
    folder: Run
    model: Model
    samples: Sequence[Sample]
    prior: Prior | None = None

    def __call__(self, step: int) -> Provenance:
        """The facts after a step."""
        config, facts = self.config, (self.folder.noted("config") or {}).get("facts", {})
        began = facts.get("started")
        return Provenance(
            name=config.subject,
            family=self.model.family.name.split()[0],
            prediction=self.model.prediction_type,
            resolution=size_of(config, self.model),
            checkpoint=Path(self.model.checkpoint).name,
            checkpoint_hash=self.model.hash,
            method=config.method,
            step=step,
            steps_per_epoch=config.steps_per_epoch(sum(sample.repeats for sample in self.samples)),
            pictures=len(self.samples),
            prior_pictures=len(self.prior.batches.samples) if self.prior and not self.prior.predicted else 0,
            started=datetime.fromisoformat(began) if began else None,
            finished=datetime.now().astimezone(),
            config=config.model_dump(mode="json"),
            folders={name: (samples[0].repeats, len(samples)) for name, samples in self._folders().items()},
            tags={name: _tags(samples) for name, samples in self._folders().items()},
            trigger=config.word if isinstance(config, NamedConfig) else "",
            cover=self._cover(),
            extra={SETTINGS: json.dumps({"method": config.method, "config": config.model_dump(mode="json", exclude=set(PRIVATE))}, ensure_ascii=False)},
        )

    def _folders(self) -> dict[str, list[Sample]]:
        """Samples by folder, as kohya's trainer would be given them: a folder has one number of repeats, so one with several is divided and named as kohya names its folders."""
        inside: dict[str, dict[int, list[Sample]]] = {}
        for sample in self.samples:
            inner = Path(sample.name).parent.name if "/" in sample.name else Path(self.config.data).name or "data"
            inside.setdefault(inner, {}).setdefault(sample.repeats, []).append(sample)
        return {name if len(parts) == 1 else f"{repeats}_{folder_repeats(name)[1] or name}": samples for name, parts in inside.items() for repeats, samples in sorted(parts.items())}

    def _cover(self) -> Path | None:
        """The newest preview."""
        return max(self.folder.samples.glob("*.png"), key=lambda path: path.name, default=None)


def _tags(samples: Sequence[Sample]) -> Counter[str]:
    """How often each tag stands in the captions."""
    return Counter(tag.strip() for sample in samples for tag in sample.caption.split(",") if tag.strip())
