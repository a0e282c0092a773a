"""What A1111 leaves behind of a training: its folder of the day with losses, settings, copies and pictures, so that what reads those reads ours."""

import csv
import io
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.files import atomic_write
from studio.formats.embedding import read_embedding
from studio.formats.embedding_png import write_picture
from studio.requests.train import HypernetworkConfig, TrainConfig
from studio.settings import Paths

COLUMNS = ("step", "epoch", "epoch_step", "loss", "learn_rate")
LOSSES = "textual_inversion_loss.csv"
HYPERNETWORK_LOSSES = "hypernetwork_loss.csv"
FLUSH_ROWS, FLUSH_SECONDS = 200, 5.0
"""Rows, or seconds, after which rows go to the disk; `flush` sends them at once."""
KEPT_ROWS = 100_000
"""Rows that wait while the disk cannot be written; older ones are given up."""


class A1111Log:
    """outputs/textual_inversion/<day the run started>/<name>/; a second run of that day and name gets `<name>-2`, where A1111 would write over the first.

    Nothing here can end a training: what the disk refuses comes back as a sentence, once until it works again; an empty text means that all is well.
    """

    def __init__(self, paths: Paths, name: str, started: datetime, config: TrainConfig) -> None:
        self.root, self.name, self.started, self.config = paths.outputs / "textual_inversion", name, started, config
        self.losses, self.copies = (HYPERNETWORK_LOSSES, "hypernetworks") if isinstance(config, HypernetworkConfig) else (LOSSES, "embeddings")
        self._told = f"settings-{started:%Y-%m-%d-%H-%M-%S}.json"
        self.folder = self._place()
        self._rows: list[tuple[int, int, int, str, float]] = []
        self._flushed = time.monotonic()
        self._failed = False

    def row(self, step: int, epoch_len: int, loss: float, rate: float) -> str:
        """Note the loss of the step that was just taken, counted from 1; `epoch_len` is the steps of an epoch. Rows are written in bundles."""
        length = max(1, epoch_len)
        self._rows.append((step, (step - 1) // length, (step - 1) % length, f"{loss:.7f}", rate))
        del self._rows[:-KEPT_ROWS]
        due = len(self._rows) % FLUSH_ROWS == 0 or time.monotonic() - self._flushed > FLUSH_SECONDS
        return self.flush() if due else ""

    def flush(self) -> str:
        """Write the rows that wait; a run calls it with each checkpoint, so that going on from there finds every row up to it."""
        self._flushed = time.monotonic()
        return self._try(self._append) if self._rows else ""

    def rewind(self, step: int) -> str:
        """Cut the losses back to `step`, where the run goes on; a half-written last line goes too."""
        self._rows = [row for row in self._rows if row[0] <= step]
        return self._try(lambda: self._cut(step))

    def settings(self, **facts: Any) -> str:
        """Write A1111's keys of a training.

        `facts` are what the configuration does not know: model_name, model_hash, num_of_dataset_images, initial_step, num_vectors_per_token, training_width, training_height.
        """
        return self._try(lambda: self._write_settings(facts))

    def copy(self, path: Path) -> str:
        """Show a saved copy, such as <name>-500.pt, under embeddings/ or hypernetworks/."""
        return self._try(lambda: _linked(path, self.folder / self.copies / path.name))

    def image(self, path: Path) -> str:
        """Show a preview, such as samples/000500-1.png, as images/<name>-500.png, further columns as <name>-500-2.png; its infotext is inside."""
        return self._try(lambda: _linked(path, self.folder / "images" / self._image_name(path)))

    def embedded(self, picture: Path, weights: Path) -> str:
        """Write the preview again with the embedding that painted it inside, as image_embeddings/<name>-<step>.png, to be shared as one file; no picture holds a hypernetwork."""
        return "" if self.losses != LOSSES else self._try(lambda: self._write_embedded(picture, weights))

    def _place(self) -> Path:
        """The folder that holds this run's settings, else the first of its name that no run has."""
        day = self.root / f"{self.started:%Y-%m-%d}"
        count = 1
        while True:
            folder = day / (self.name if count == 1 else f"{self.name}-{count}")
            if (folder / self._told).exists() or not ((folder / self.losses).exists() or any(folder.glob("settings-*.json"))):
                return folder
            count += 1

    def _try(self, act: Callable[[], None]) -> str:
        """Do something on the disk; why it failed, said once until something works again."""
        try:
            act()
        except (OSError, StudioError) as error:
            reason = str(error) if isinstance(error, StudioError) else error.strerror or str(error)
            said, self._failed = self._failed, True
            return "" if said else f"The log in A1111's layout could not be written ({reason}). The training and its run folder are not affected."
        self._failed = False
        return ""

    def _append(self) -> None:
        """Rows to the end of the file, with a header when it is new."""
        text, path = io.StringIO(newline=""), self.folder / self.losses
        writer = csv.writer(text)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or not path.stat().st_size:
            writer.writerow(COLUMNS)
        writer.writerows(self._rows)
        before = path.stat().st_size if path.exists() else 0
        try:
            with path.open("a", encoding="utf-8", newline="") as file:
                file.write(text.getvalue())
        except OSError:
            if path.exists() and path.stat().st_size > before:
                os.truncate(path, before)  # half of a bundle would come twice
            raise
        self._rows.clear()

    def _cut(self, step: int) -> None:
        """Keep whole lines of steps up to `step`."""
        path = self.folder / self.losses
        if not path.exists():
            return
        with path.open(encoding="utf-8", newline="") as file:
            lines = file.readlines()
        kept = [line for line in lines[1:] if line.endswith("\n") and (number := line.split(",")[0]).isdigit() and int(number) <= step]
        with atomic_write(path) as temporary:
            temporary.write_text("".join([",".join(COLUMNS) + "\r\n", *kept]), encoding="utf-8", newline="")

    def _write_settings(self, facts: dict[str, Any]) -> None:
        """The settings as JSON."""
        config = self.config
        told = {
            "datetime": f"{self.started:%Y-%m-%d %H:%M:%S}",
            "batch_size": config.batch_size,
            "clip_grad_mode": config.clip_grad_mode,
            "clip_grad_value": str(config.clip_grad_value),
            "create_image_every": config.preview_every,
            "data_root": config.data,
            "gradient_step": config.gradient_accumulation,
            "initial_step": 0,
            "latent_sampling_method": config.latent_sampling,
            "learn_rate": config.learn_rate,
            "log_directory": str(self.folder),
            "model_hash": "",
            "model_name": config.checkpoint,
            "num_of_dataset_images": 0,
            "steps": config.steps,
            "template_file": config.template,
            "training_height": config.height,
            "training_width": config.width,
            **self._own(),
            "preview_prompt": config.preview_prompt,
            "preview_negative_prompt": config.preview_negative_prompt,
            "preview_steps": config.preview_steps,
            "preview_sampler_name": config.preview_sampler,
            "preview_cfg_scale": config.preview_cfg_scale,
            "preview_seed": config.preview_seed,
            "preview_width": facts.get("training_width", config.width),
            "preview_height": facts.get("training_height", config.height),
        }
        with atomic_write(self.folder / self._told) as temporary:
            temporary.write_text(json.dumps({**told, **facts}, indent=4, ensure_ascii=False), encoding="utf-8")

    def _own(self) -> dict[str, Any]:
        """A1111's keys of what learns."""
        config = self.config
        if not isinstance(config, HypernetworkConfig):
            return {"embedding_name": self.name, "num_vectors_per_token": 0, "save_embedding_every": config.save_every, "save_image_with_stored_embedding": True}
        return {
            "hypernetwork_name": self.name,
            "activation_func": config.activation,
            "add_layer_norm": config.layer_norm,
            "layer_structure": list(config.structure),
            "save_hypernetwork_every": config.save_every,
            "use_dropout": any(config.rates_of_dropout),
            "weight_init": config.weight_init,
        }

    def _image_name(self, path: Path) -> str:
        """`000500.png` and `000500-0.png` as <name>-500.png, `000500-1.png` as <name>-500-2.png; any other name stays behind the embedding's."""
        parts = re.fullmatch(r"(\d+)(?:-(\d+))?", path.stem)
        if parts is None:
            return path.name if path.stem.startswith(self.name) else f"{self.name}-{path.name}"
        column = int(parts[2] or 0)
        return f"{self.name}-{int(parts[1])}{f'-{column + 1}' if column else ''}{path.suffix}"

    def _write_embedded(self, picture: Path, weights: Path) -> None:
        """A preview with its weights inside."""
        write_picture(self.folder / "image_embeddings" / self._image_name(picture), read_embedding(weights), picture)


def _linked(path: Path, target: Path) -> None:
    """The same file under a second name, which costs no space; a copy where the file system has no links. What stood there is replaced."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
