"""kohya_ss's JSON and sd-scripts' TOML as settings by sd-scripts' names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.errors import InputError
from studio.presets.kohya import Settings
from studio.presets.kohya_pictures import FOLDER
from studio.presets.kohya_rates import arguments
from studio.presets.reason import Reason
from studio.presets.taking import empty, flag, flattened, local_folder, number, pictures_in, shown, whole

KNOWN = frozenset(
    (
        "learning_rate",
        "unet_lr",
        "network_dim",
        "network_module",
        "max_train_steps",
        "max_train_epochs",
        "optimizer",
        "optimizer_type",
        "train_batch_size",
        "resolution",
        "max_resolution",
        "pretrained_model_name_or_path",
        "train_data_dir",
        "datasets",
        "LoRA_type",
    )
)
"""Names that only kohya's settings have; two of them, or `datasets`, make a file one of its."""
_TYPES = {
    "Standard": ("lora", ""),
    "Kohya LoCon": ("lora", ""),
    "LoRA-FA": ("lora", ""),
    "Kohya DyLoRA": ("lora", ""),
    "LyCORIS/LoCon": ("lycoris", "locon"),
    "LyCORIS/LoHa": ("lycoris", "loha"),
    "LyCORIS/LoKr": ("lycoris", "lokr"),
    "LyCORIS/iA3": ("lycoris", "ia3"),
    "LyCORIS/DyLoRA": ("lycoris", "dylora"),
    "LyCORIS/GLoRA": ("lycoris", "glora"),
    "LyCORIS/Diag-OFT": ("lycoris", "diag-oft"),
    "LyCORIS/BOFT": ("lycoris", "boft"),
    "LyCORIS/Native Fine-Tuning": ("lycoris", "full"),
}
"""kohya_ss's kinds of network: our method and LyCORIS's algorithm."""
_NETWORK = (
    "conv_dim",
    "conv_alpha",
    "factor",
    "use_tucker",
    "use_cp",
    "dora_wd",
    "rank_dropout",
    "module_dropout",
    "loraplus_lr_ratio",
    "train_on_input",
    "train_norm",
    "use_scalar",
    "decompose_both",
    "rescaled",
    "constrain",
    "bypass_mode",
    "rank_dropout_scale",
    "down_lr_weight",
    "mid_lr_weight",
    "up_lr_weight",
    "block_dims",
    "block_alphas",
    "conv_block_dims",
    "conv_block_alphas",
)
"""Names of kohya_ss that are arguments of the network."""
OWN = frozenset(("image_dir", "num_repeats", "class_tokens", "metadata_file", "is_reg", "img_count", "tag_frequency", "cache_info", "conditioning_data_dir"))
"""What each folder of pictures has for itself."""
_OTHER_MODELS = ("flux", "sd3", "lumina", "chroma", "hunyuan", "anima", "cascade", "wan", "qwen")
"""Models that kohya's tools train and the studio does not."""


def is_kohya(settings: Mapping[str, Any]) -> bool:
    """Whether settings are kohya's."""
    flat = flattened(settings)
    return "datasets" in flat or len(flat.keys() & KNOWN) >= 2


def read_kohya(settings: Mapping[str, Any]) -> Settings:
    """Settings of kohya_ss or sd-scripts; raises InputError for those of models that are not Stable Diffusion 1, 2 or XL."""
    flat = {**flattened(settings), **_of_datasets(settings)}
    other = next((name for name in _OTHER_MODELS if name in str(flat.get("network_module", "")).lower() or name in str(flat.get("LoRA_type", "")).lower() or flag(flat.get(f"{name}_checkbox"))), None)
    if other:
        raise InputError(f"These settings are for {other}.", "The studio trains Stable Diffusion 1, 2 and XL.")
    method, network = _method(flat)
    counted = _counted(settings, flat)
    return Settings(
        method,
        flat,
        network,
        counted["images"],
        counted["regularisation"],
        counted["words"],
        any(key in flat for key in ("learning_rate", "unet_lr", "max_train_steps", "optimizer", "optimizer_type")),
        percent_warmup="lr_warmup" in flat and not number(flat.get("lr_warmup_steps")),
        file=True,
        notes=several_sets(_merged(settings)),
    )


def _method(flat: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Our method and the arguments of the network."""
    network = {name: flat[name] for name in _NETWORK if not empty(flat.get(name))} if "LoRA_type" in flat else {}
    network |= arguments(flat.get("network_args"))
    if "LoRA_type" in flat:
        kind = str(flat["LoRA_type"])
        method, algorithm = _TYPES.get(kind, ("lycoris", kind.rpartition("/")[2].lower()))
        if method == "lora" and kind != "Kohya LoCon":
            network.pop("conv_dim", None)
        preset = {"preset": flat["LyCORIS_preset"]} if method == "lycoris" and not empty(flat.get("LyCORIS_preset")) else {}
        return method, {**network, **preset, **({"algo": algorithm} if algorithm else {})}
    module = str(flat.get("network_module", ""))
    if module:
        return ("lycoris" if "lycoris" in module else "lora"), network
    if any(not empty(flat.get(key)) for key in ("token_string", "num_vectors_per_token", "init_word")):
        return "textual_inversion", {}
    if any(key in flat for key in ("in_json", "dataset_repeats", "image_folder", "metadata_file")):
        return "fine_tune", {}
    trains = any(key in flat for key in ("learning_rate", "max_train_steps", "optimizer", "optimizer_type"))
    return ("dreambooth" if trains else "lora"), {}


def _of_datasets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the tables of a data set say, the first one before the general one; a subset's word counts most."""
    general = settings.get("general") if isinstance(settings.get("general"), Mapping) else {}
    first = next(iter(_tables(settings.get("datasets"))), {})
    subset = next((each for each in _tables(first.get("subsets")) if not flag(each.get("is_reg"))), {})
    found = {**(general or {}), **first, **subset}
    found.pop("subsets", None)
    kept = next((each for dataset in _tables(settings.get("datasets")) for each in _tables(dataset.get("subsets")) if flag(each.get("is_reg"))), None)
    if kept is not None:
        found["reg_data_dir"] = kept.get("image_dir")
    if "batch_size" in found:
        found["train_batch_size"] = found.pop("batch_size")
    return found


def _merged(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What counts for each folder of pictures to learn from: its own settings before its data set's, before the general ones."""
    general = settings.get("general") if isinstance(settings.get("general"), Mapping) else {}
    found = []
    for dataset in _tables(settings.get("datasets")):
        shared = {key: value for key, value in dataset.items() if key != "subsets"}
        found += [{**(general or {}), **shared, **subset} for subset in _tables(dataset.get("subsets")) if not flag(subset.get("is_reg"))]
    return found


def several_sets(folders: Sequence[Mapping[str, Any]]) -> tuple[Reason, ...]:
    """Notes about more than one folder of pictures: that the first is chosen, and each setting that another one has otherwise."""
    if len(folders) < 2:
        return ()
    found = [Reason("It had {count} folders of pictures; the first one counts here. Import all of them into one data set, or choose a tree of kohya's folders.", {"count": len(folders)})]
    for key in sorted({key for folder in folders for key in folder} - OWN):
        values = [shown(folder.get(key, "-")) for folder in folders]
        if len(set(values)) > 1:
            found.append(Reason("{label} differs between its folders of pictures ({values}); here the first one counts for all.", {"label": key, "values": ", ".join(dict.fromkeys(values))}))
    return tuple(found)


def _tables(value: Any) -> list[Mapping[str, Any]]:
    """A list's tables."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _counted(settings: Mapping[str, Any], flat: Mapping[str, Any]) -> dict[str, Any]:
    """Pictures with their repeats, those of the class, and the subject's words, as far as the folders are here or the file says it."""
    counts = {"images": 0, "regularisation": 0, "words": str(flat.get("class_tokens") or "")}
    for dataset in _tables(settings.get("datasets")):
        for subset in _tables(dataset.get("subsets")):
            kind = "regularisation" if flag(subset.get("is_reg")) else "images"
            counts[kind] += pictures_in(local_folder(subset.get("image_dir"))) * (whole(subset.get("num_repeats")) or 1)
    for key, kind in (("train_data_dir", "images"), ("reg_data_dir", "regularisation")):
        for folder, repeats, words in _numbered(flat.get(key)):
            counts[kind] += pictures_in(folder) * repeats
            if kind == "images" and not counts["words"]:
                counts["words"] = words
    repeats = whole(flat.get("dataset_repeats"))
    if repeats and not counts["images"]:
        counts["images"] = pictures_in(local_folder(flat.get("image_folder"))) * repeats
    return counts


def _numbered(folder: Any) -> list[tuple[Path, int, str]]:
    """The numbered folders of kohya's trees: folder, repeats, words; none for what is not here."""
    place = local_folder(folder)
    try:
        return [(each, int(parts[1][:6]), parts[2]) for each in sorted(place.iterdir()) if each.is_dir() and (parts := FOLDER.match(each.name))] if place else []
    except OSError:
        return []
