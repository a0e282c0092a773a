"""What a painting job tells while it runs: progress over all its walks, live previews, and sentences."""

import base64
import io
import time

from PIL import Image
from torch import Tensor

from studio.diffusion.conversion import to_image
from studio.diffusion.model import Model
from studio.diffusion.preview import small_pictures
from studio.diffusion.sampling import OnStep
from studio.jobs import Lane
from studio.requests.generate import GenerateRequest


class Telling:
    """One job's voice; every step of every walk passes through it."""

    def __init__(self, lane: Lane, request: GenerateRequest, runs: int = 1) -> None:
        """`runs`: how many sampling runs a batch takes."""
        self.lane, self.request = lane, request
        self.notes: list[str] = []
        self._began = time.monotonic()
        self._walks = request.batch_count * runs
        self._done = 0.0
        self._step = 0
        self._batch = 0
        self._skipped = False

    def begin(self, batch: int) -> None:
        """A batch begins."""
        self._batch, self._skipped, self._step = batch, False, 0
        self._done = batch * self._walks / self.request.batch_count

    def warn(self, text: str) -> None:
        """Say a sentence once, in the journal and in the result."""
        if text not in self.notes:
            self.notes.append(text)
            self.lane.emit("warning", text=text)

    def of(self, model: Model) -> OnStep:
        """A step callback: progress on every step, a cheap preview every few and a decoded one when asked for; False when the person stops or skips."""
        every = self.request.preview_every

        def tell(step: int, total: int, latents: Tensor) -> bool:
            self._done += step <= self._step  # the count began anew: another walk of the same batch
            self._step = step
            share = min(1.0, (self._done + step / total) / self._walks)
            spent = time.monotonic() - self._began
            text = f"batch {self._batch + 1} of {self.request.batch_count}" if self.request.batch_count > 1 else "sampling"
            whole = total * self._walks
            self.lane.emit("progress", step=round(share * whole), total=whole, rate=share * whole / max(spent, 1e-6), eta=spent * (1 - share) / max(share, 1e-6), text=text)
            if every and step % every == 0 and step < total:
                self.lane.emit("preview", step=step, total=total, image=data_uri(small_pictures(model, latents)[0]))
            if self.lane.asked("decode"):
                self.lane.emit("preview", step=step, total=total, image=data_uri(to_image(model.decode(latents[:1])[0])))
            self._skipped = self._skipped or self.lane.asked("skip")
            return not (self._skipped or self.lane.stopping())

        return tell


def data_uri(image: Image.Image) -> str:
    """A small JPEG as a data URI, at least 128 pixels wide."""
    factor = max(1, 256 // image.width)
    buffer = io.BytesIO()
    image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
