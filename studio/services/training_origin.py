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
            checkpoint=self.model.checkpoint,
            checkpoint_hash=self.model.hash,
            method=config.method,
            step=step,
            steps_per_epoch=max(1, -(-len(self.samples) // (config.whole_batch * config.gradient_accumulation))),
            pictures=len(self.samples),
            prior_pictures=len(self.prior.batches.samples) if self.prior and not self.prior.predicted else 0,
            started=datetime.fromisoformat(began) if began else None,
            finished=datetime.now().astimezone(),
            config=config.model_dump(mode="json"),
            tags={Path(config.data).name or "data": self._tags()},
            trigger=config.word if isinstance(config, NamedConfig) else "",
            cover=self._cover(),
            extra={SETTINGS: json.dumps({"method": config.method, "config": config.model_dump(mode="json", exclude=set(PRIVATE))}, ensure_ascii=False)},
        )

    def _tags(self) -> Counter[str]:
        """How often each tag stands in the captions."""
        return Counter(tag.strip() for sample in self.samples for tag in sample.caption.split(",") if tag.strip())

    def _cover(self) -> Path | None:
        """The newest preview."""
        return max(self.folder.samples.glob("*.png"), key=lambda path: path.name, default=None)
