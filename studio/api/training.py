"""Making and training by A1111's routes: embeddings, hypernetworks, and prepared pictures."""

from typing import Any

from fastapi import APIRouter

from studio.api.names import sampler_of
from studio.api.sdapi_models import CreateEmbedding, CreateHypernetwork, Preprocess, TrainEmbedding, TrainHypernetwork, Training
from studio.api.waiting import Here
from studio.config import Config
from studio.engine import Engine
from studio.errors import InputError
from studio.requests import CreateEmbeddingRequest, CreateHypernetworkRequest, PreprocessRequest, TrainRequest

router = APIRouter(prefix="/sdapi/v1")
DROPPED = set('/\\:*?"<>|\0\n\r\t')


@router.post("/create/embedding")
async def create_embedding(body: CreateEmbedding, here: Here) -> dict[str, str]:
    """Create an embedding from the words of its initialization text, on the checkpoint that is chosen."""
    job = await here.finished(lambda: _embedding(body, here.engine))
    return {"info": f"create embedding filename: {(job.result or {}).get('path')}"}


def _embedding(body: CreateEmbedding, engine: Engine) -> Config:
    """The request of a /create/embedding body; letters no file name can hold are dropped."""
    values = {
        "name": _name(body.name),
        "vectors": body.num_vectors_per_token,
        "overwrite": body.overwrite_old,
        "initialization_text": body.init_text,
        "checkpoint": engine.preferences().sd_model_checkpoint,
    }
    return CreateEmbeddingRequest.check({k: v for k, v in values.items() if v is not None})


@router.post("/train/embedding")
async def train_embedding(body: TrainEmbedding, here: Here) -> dict[str, str]:
    """Train an embedding to its last step; answers when it is done. Watch it with GET /progress, end it with POST /interrupt."""
    job = await here.finished(lambda: _of_embedding(body, here.engine), body.id_task)
    result = job.result or {}
    return {"info": f"train embedding complete: filename: {result.get('path') or result.get('embedding') or body.embedding_name} error: None"}


def _name(text: str) -> str:
    """A name without letters that no file name can hold."""
    return "".join(c for c in text if c not in DROPPED).strip()


def _of_embedding(body: TrainEmbedding, engine: Engine) -> Config:
    """The request of a /train/embedding body; raises InputError."""
    return _training(body, {"embedding": body.embedding_name, "save_every": body.save_embedding_every}, "textual_inversion", engine)


@router.post("/create/hypernetwork")
async def create_hypernetwork(body: CreateHypernetwork, here: Here) -> dict[str, str]:
    """Create a hypernetwork for the widths of the checkpoint that is chosen."""
    job = await here.finished(lambda: _hypernetwork(body, here.engine))
    return {"info": f"create hypernetwork filename: {(job.result or {}).get('path')}"}


def _hypernetwork(body: CreateHypernetwork, engine: Engine) -> Config:
    """The request of a /create/hypernetwork body; as in A1111, rates of dropout count only with use_dropout."""
    values = {
        "name": _name(body.name),
        "overwrite": body.overwrite_old,
        "modules": None if body.enable_sizes is None else [str(size) for size in body.enable_sizes],
        "layer_structure": _listed(body.layer_structure),
        "activation": body.activation_func.lower() if body.activation_func else None,
        "weight_init": body.weight_init or None,
        "layer_norm": body.add_layer_norm,
        "dropout_structure": _listed(body.dropout_structure) if body.use_dropout else None,
        "checkpoint": engine.preferences().sd_model_checkpoint,
    }
    return CreateHypernetworkRequest.check({k: v for k, v in values.items() if v is not None})


def _listed(value: str | list[float] | None) -> str | None:
    """Numbers between commas, from such a text or from a list."""
    return ", ".join(f"{number:g}" for number in value) if isinstance(value, list) else value


@router.post("/train/hypernetwork")
async def train_hypernetwork(body: TrainHypernetwork, here: Here) -> dict[str, str]:
    """Train a hypernetwork that was created to its last step; answers when it is done. Watch it with GET /progress, end it with POST /interrupt."""
    job = await here.finished(lambda: _of_hypernetwork(body, here.engine), body.id_task)
    return {"info": f"train embedding complete: filename: {(job.result or {}).get('path') or body.hypernetwork_name} error: None"}


def _of_hypernetwork(body: TrainHypernetwork, engine: Engine) -> Config:
    """The request of a /train/hypernetwork body; raises InputError."""
    own = {"name": body.hypernetwork_name, "start_from": body.hypernetwork_name, "save_every": body.save_hypernetwork_every}
    return _training(body, own, "hypernetwork", engine)


def _training(body: Training, own: dict[str, Any], method: str, engine: Engine) -> Config:
    """The request of a training's body and what is its method's `own`; raises InputError for what it asks for that is not here."""
    refused = {
        "varsize": (body.varsize, "pictures are always fitted to one size; send false"),
        "use_weight": (body.use_weight, "transparency is no weight here; send false"),
    }
    wrong = [f"{name}: {reason}." for name, (asked, reason) in refused.items() if asked]
    if wrong:
        raise InputError(" ".join(wrong))
    values: dict[str, Any] = {
        **own,
        "learn_rate": None if body.learn_rate is None else str(body.learn_rate),
        "batch_size": body.batch_size,
        "gradient_accumulation": body.gradient_step,
        "data": body.data_root,
        "width": body.training_width,
        "height": body.training_height,
        "steps": body.steps,
        "shuffle_tags": body.shuffle_tags,
        "drop_out_tags": body.tag_drop_out,
        "clip_grad_mode": body.clip_grad_mode or None,
        "clip_grad_value": body.clip_grad_value if body.clip_grad_value not in ("", 0) else None,
        "latent_sampling": body.latent_sampling_method,
        "preview_every": body.create_image_every,
        "template": (body.template_filename or "").removesuffix(".txt") or None,
        "checkpoint": engine.preferences().sd_model_checkpoint,
        "clip_skip": min(4, engine.preferences().CLIP_stop_at_last_layers),
        **_previews(body),
    }
    return TrainRequest.check({"method": method, "config": {k: v for k, v in values.items() if v is not None}})


def _previews(body: Training) -> dict[str, Any]:
    """How previews are painted, when the client says so itself."""
    if not body.preview_from_txt2img:
        return {}
    return {
        "preview_prompt": body.preview_prompt,
        "preview_negative_prompt": body.preview_negative_prompt,
        "preview_steps": body.preview_steps,
        "preview_sampler": sampler_of(body.preview_sampler_name)[0] if body.preview_sampler_name else None,
        "preview_cfg_scale": body.preview_cfg_scale,
        "preview_seed": body.preview_seed if (body.preview_seed or 0) >= 0 else None,
    }


@router.post("/preprocess")
async def preprocess(body: Preprocess, here: Here) -> dict[str, str]:
    """Crop, split, flip and caption pictures into a folder."""
    await here.finished(lambda: _preparing(body), body.id_task)
    return {"info": "preprocess complete"}


def _preparing(body: Preprocess) -> Config:
    """The request of a /preprocess body; raises InputError for what it asks for that is not here."""
    ways = {"process_split": body.process_split, "process_multicrop": body.process_multicrop, "process_keep_original_size": body.process_keep_original_size}
    wanted = [name for name, asked in ways.items() if asked]
    if len(wanted) > 1:
        raise InputError(f"{' and '.join(wanted)}: a picture is prepared in one of these ways.", "Send one of them as true, and prepare once more for the other.")
    values = {
        "source": body.process_src,
        "destination": body.process_dst,
        "width": body.process_width,
        "height": body.process_height,
        "existing_captions": body.preprocess_txt_action,
        "flip": body.process_flip,
        "crop": "Focal" if body.process_focal_crop else "Center",
        "captioners": [name for name, wanted in (("BLIP", body.process_caption), ("DeepBooru", body.process_caption_deepbooru)) if wanted],
        "face_weight": body.process_focal_crop_face_weight,
        "entropy_weight": body.process_focal_crop_entropy_weight,
        "edges_weight": body.process_focal_crop_edges_weight,
        "debug": body.process_focal_crop_debug,
        "split": body.process_split,
        "split_threshold": body.split_threshold,
        "overlap_ratio": body.overlap_ratio,
        "sizing": "auto" if body.process_multicrop else "keep" if body.process_keep_original_size else None,
        "auto_smallest": body.process_multicrop_mindim,
        "auto_largest": body.process_multicrop_maxdim,
        "auto_least_area": body.process_multicrop_minarea,
        "auto_most_area": body.process_multicrop_maxarea,
        "auto_objective": body.process_multicrop_objective,
        "auto_threshold": body.process_multicrop_threshold,
    }
    return PreprocessRequest.check({k: v for k, v in values.items() if v is not None})
