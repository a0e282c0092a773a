"""Where things live: A1111's folders under one root, and the folders that ship with the program."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SHIPPED_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Paths:
    """The folders of one studio; `root` holds models, embeddings, templates and outputs."""

    root: Path

    @classmethod
    def default(cls) -> "Paths":
        """The root named by STUDIO_ROOT, else the folder the program was cloned into."""
        return cls(Path(os.environ.get("STUDIO_ROOT") or SHIPPED_ROOT).resolve())

    @cached_property
    def shipped(self) -> "Paths":
        """The folders that came with the program (the tiny world, templates)."""
        return Paths(SHIPPED_ROOT)

    def both(self, name: str) -> tuple[Path, ...]:
        """Own folder first, then the shipped one, for the property called `name`."""
        own, shipped = getattr(self, name), getattr(self.shipped, name)
        return (own,) if own == shipped else (own, shipped)

    @property
    def models(self) -> Path:
        """Folder of all model files."""
        return self.root / "models"

    @property
    def checkpoints(self) -> Path:
        """Stable Diffusion checkpoints: single files and diffusers folders."""
        return self.models / "Stable-diffusion"

    @property
    def vae(self) -> Path:
        """Stand-alone autoencoders."""
        return self.models / "VAE"

    @property
    def lora(self) -> Path:
        """LoRA and LyCORIS files."""
        return self.models / "Lora"

    @property
    def hypernetworks(self) -> Path:
        """Hypernetwork files."""
        return self.models / "hypernetworks"

    @property
    def esrgan(self) -> Path:
        """Models that enlarge pictures."""
        return self.models / "ESRGAN"

    @property
    def styles(self) -> Path:
        """Saved prompts, in A1111's columns."""
        return self.root / "styles.csv"

    @property
    def settings(self) -> Path:
        """What a person set, as JSON."""
        return self.root / "settings.json"

    @property
    def blip(self) -> Path:
        """BLIP captioners, one folder each."""
        return self.models / "BLIP"

    @property
    def deepbooru(self) -> Path:
        """DeepBooru taggers."""
        return self.models / "torch_deepdanbooru"

    @property
    def rembg(self) -> Path:
        """Background networks in rembg's ONNX files."""
        return self.models / "rembg"

    @property
    def segmentation(self) -> Path:
        """Segmentation models, one transformers folder each."""
        return self.models / "segmentation"

    @property
    def opencv(self) -> Path:
        """YuNet's face detector, under A1111's file name."""
        return self.models / "opencv"

    @property
    def embeddings(self) -> Path:
        """Textual inversion embeddings; the file stem is the word used in a prompt."""
        return self.root / "embeddings"

    @property
    def templates(self) -> Path:
        """Prompt templates for training, one prompt per line."""
        return self.root / "textual_inversion_templates"

    @property
    def outputs(self) -> Path:
        """Everything the studio writes that is not a model or an embedding."""
        return self.root / "outputs"

    @property
    def database(self) -> Path:
        """The queue and journal."""
        return self.outputs / "studio.db"

    @property
    def runs(self) -> Path:
        """One folder per training run."""
        return self.outputs / "runs"

    @property
    def images(self) -> Path:
        """Generated pictures, by day."""
        return self.outputs / "images"

    @property
    def uploads(self) -> Path:
        """Files dropped into the page."""
        return self.outputs / "uploads"

    @property
    def datasets(self) -> Path:
        """Prepared training sets made in the page."""
        return self.outputs / "datasets"

    @property
    def latents(self) -> Path:
        """Encoded pictures, keyed by content."""
        return self.outputs / "cache" / "latents"

    @property
    def hashes(self) -> Path:
        """Hashes of large files, computed once."""
        return self.outputs / "cache" / "hashes.json"

    @property
    def crops(self) -> Path:
        """Small originals with the crop drawn on them, by job."""
        return self.outputs / "cache" / "crops"

    @property
    def thumbnails(self) -> Path:
        """Small copies of data sets' pictures, by content."""
        return self.outputs / "cache" / "thumbnails"

    @property
    def logs(self) -> Path:
        """What the worker printed."""
        return self.outputs / "logs"

    def prepare(self) -> "Paths":
        """Make the folders a person may put files into; returns self."""
        for folder in (
            self.checkpoints,
            self.vae,
            self.lora,
            self.hypernetworks,
            self.esrgan,
            self.rembg,
            self.opencv,
            self.segmentation,
            self.embeddings,
            self.templates,
            self.images,
            self.runs,
            self.uploads,
            self.datasets,
            self.latents,
            self.logs,
        ):
            folder.mkdir(parents=True, exist_ok=True)
        return self
