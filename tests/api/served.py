"""A server with a worker on the tiny world, and a client that speaks to it as A1111's clients do."""

import base64
import io
import json
from typing import Any

from fastapi.testclient import TestClient
from PIL import Image

EVERY_FIELD: dict[str, Any] = {
    "enable_hr": False,
    "hr_scale": 2,
    "hr_upscaler": "Latent",
    "hr_second_pass_steps": 0,
    "hr_resize_x": 0,
    "hr_resize_y": 0,
    "hr_checkpoint_name": None,
    "hr_sampler_name": None,
    "hr_prompt": "",
    "hr_negative_prompt": "",
    "denoising_strength": 0.7,
    "firstphase_width": 0,
    "firstphase_height": 0,
    "styles": [],
    "seed": 1,
    "subseed": -1,
    "subseed_strength": 0.0,
    "seed_resize_from_h": 0,
    "seed_resize_from_w": 0,
    "batch_size": 1,
    "n_iter": 1,
    "steps": 2,
    "cfg_scale": 4.0,
    "width": 128,
    "height": 128,
    "restore_faces": False,
    "tiling": False,
    "do_not_save_samples": False,
    "do_not_save_grid": False,
    "negative_prompt": "blurry",
    "eta": 1.0,
    "s_churn": 0,
    "s_tmax": 0,
    "s_tmin": 0,
    "s_noise": 1,
    "override_settings": {},
    "override_settings_restore_afterwards": True,
    "sampler_name": None,
    "sampler_index": "Euler a",
    "scheduler": None,
    "script_name": None,
    "script_args": [],
    "send_images": True,
    "save_images": False,
    "alwayson_scripts": {},
}
"""What a common client of A1111 sends with every txt2img."""
IMG2IMG: dict[str, Any] = {
    "resize_mode": 0,
    "denoising_strength": 0.75,
    "image_cfg_scale": 1.5,
    "mask_blur": 4,
    "inpainting_fill": 0,
    "inpaint_full_res": True,
    "inpaint_full_res_padding": 0,
    "inpainting_mask_invert": 0,
    "initial_noise_multiplier": 1,
    "include_init_images": False,
}
"""What it sends with img2img beside."""


class Refused(RuntimeError):
    """An answer that was not 200: status and body, as such a client raises it."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(status, body)
        self.status, self.body = status, body


class Client:
    """Sends every field, expects bare base64 and an `info` that is a JSON string."""

    def __init__(self, http: TestClient) -> None:
        self.http = http

    def get(self, path: str) -> Any:
        """GET under /sdapi/v1."""
        return self._read(self.http.get(f"/sdapi/v1/{path}"))

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """POST under /sdapi/v1."""
        return self._read(self.http.post(f"/sdapi/v1/{path}", json=body or {}))

    def txt2img(self, **fields: Any) -> tuple[list[Image.Image], dict[str, Any]]:
        """Pictures and what is said about them."""
        return self._pictures(self.post("txt2img", {**EVERY_FIELD, **fields}))

    def img2img(self, image: Image.Image, mask: Image.Image | None = None, **fields: Any) -> tuple[list[Image.Image], dict[str, Any]]:
        """The same, from a picture."""
        body = {**{k: v for k, v in EVERY_FIELD.items() if not k.startswith(("hr_", "enable_hr", "firstphase"))}, **IMG2IMG, "init_images": [base64_of(image)]}
        return self._pictures(self.post("img2img", {**body, "mask": base64_of(mask) if mask else None, **fields}))

    @staticmethod
    def _read(response: Any) -> Any:
        if response.status_code != 200:
            raise Refused(response.status_code, response.json())
        assert float(response.headers["X-Process-Time"]) >= 0
        return response.json()

    @staticmethod
    def _pictures(answer: dict[str, Any]) -> tuple[list[Image.Image], dict[str, Any]]:
        assert set(answer) == {"images", "parameters", "info"}
        assert isinstance(answer["info"], str)
        return [picture_of(text) for text in answer["images"]], json.loads(answer["info"])


def base64_of(image: Image.Image, format: str = "PNG", **options: Any) -> str:
    """A picture as base64."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return base64.b64encode(buffer.getvalue()).decode()


def picture_of(text: str) -> Image.Image:
    """A picture from bare base64."""
    image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
    image.load()
    return image
