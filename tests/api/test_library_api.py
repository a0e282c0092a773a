"""Lists, settings, training and tools by A1111's routes, with a real worker on the tiny world."""

import base64
import json
import threading
import time
from pathlib import Path
from typing import get_args

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from studio import shelves
from studio.api.a1111_options import DEFAULTS, FLAGS, kept_file
from studio.api.app import bare_app
from studio.engine import Engine
from studio.jobs import State
from studio.requests.generate import Sampler
from studio.settings import Paths
from tests.api.served import Client, Refused, base64_of


def test_samplers_and_schedulers_have_every_name(client: Client) -> None:
    samplers = client.get("samplers")
    assert [s["name"] for s in samplers] == list(get_args(Sampler))
    assert next(s for s in samplers if s["name"] == "Euler a")["aliases"] == ["k_euler_a", "k_euler_ancestral"]
    schedulers = {s["label"]: s for s in client.get("schedulers")}
    assert schedulers["Karras"] == {"name": "karras", "label": "Karras", "aliases": None, "default_rho": 7.0, "need_inner_model": False}
    assert schedulers["SGM Uniform"]["name"] == "sgm_uniform"


def test_checkpoints_in_a1111s_shape(client: Client, served: Engine) -> None:
    models = client.get("sd-models")
    assert [set(m) for m in models] == [{"title", "model_name", "hash", "sha256", "filename", "config"}] * len(models)
    assert "tiny-world" in {m["model_name"] for m in models}
    assert all(Path(m["filename"]).exists() for m in models)


def test_a_checkpoint_is_known_by_its_hash_once_it_was_loaded(client: Client) -> None:
    _, info = client.txt2img(prompt="a cat", width=64, height=64, steps=1, override_settings={"sd_model_checkpoint": "tiny-world"})
    model = next(m for m in client.get("sd-models") if m["model_name"] == "tiny-world")
    assert model["hash"] == info["sd_model_hash"] == model["sha256"][:10]
    assert model["title"] == f"tiny-world [{model['hash']}]"
    for wanted in (model["title"], model["hash"], model["sha256"], "tiny"):
        client.post("options", {"sd_model_checkpoint": wanted})
        assert client.get("options")["sd_model_checkpoint"] == model["title"]
    client.post("options", {"sd_model_checkpoint": ""})


def test_shelves_of_networks(client: Client, served: Engine) -> None:
    paths = served.paths
    head = json.dumps({"__metadata__": {"ss_output_name": "my style", "ss_network_dim": "4"}}).encode()
    (paths.lora / "style.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)
    (paths.lora / "broken.safetensors").write_bytes(b"\xff" * 9)
    (paths.vae / "soft.safetensors").write_bytes(b"x")
    (paths.hypernetworks / "net.pt").write_bytes(b"x")
    (paths.esrgan / "4x-sharp.pth").write_bytes(b"x")
    paths.styles.write_text('name,prompt,negative_prompt\nfilm,"grainy, {prompt}",flat\n', encoding="utf-8")
    loras = client.get("loras")
    assert [(lora["name"], lora["alias"]) for lora in loras] == [("broken", "broken"), ("style", "my style")]
    assert loras[1]["metadata"]["ss_network_dim"] == "4"
    assert client.get("sd-vae") == [{"model_name": "soft.safetensors", "filename": str(paths.vae / "soft.safetensors")}]
    assert client.get("hypernetworks") == [{"name": "net", "path": str(paths.hypernetworks / "net.pt")}]
    assert [u["name"] for u in client.get("upscalers")] == ["None", "Lanczos", "Nearest", "4x-sharp"]
    assert {"name": "film", "prompt": "grainy, {prompt}", "negative_prompt": "flat"} in client.get("prompt-styles")
    assert {"name": "Latent"} in client.get("latent-upscale-modes")
    for kind in ("embeddings", "vae", "checkpoints", "loras"):
        assert client.post(f"refresh-{kind}") is None
    for kind in ("face-restorers", "realesrgan-models", "extensions"):
        assert client.get(kind) == []
    for path in (paths.lora / "style.safetensors", paths.lora / "broken.safetensors", paths.vae / "soft.safetensors", paths.esrgan / "4x-sharp.pth", paths.styles):
        path.unlink()


def test_options_change_and_stay(client: Client) -> None:
    before = client.get("options")
    assert before["sd_model_checkpoint"].startswith("tiny-world")
    answer = client.http.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 2, "sd_model_checkpoint": "tiny-world [0123456789]", "sd_vae": "None", "made_up": 1})
    assert (answer.status_code, answer.json(), answer.headers["X-Ignored-Fields"]) == (200, None, "made_up")
    after = client.get("options")
    assert after["made_up"] == 1
    assert (after["CLIP_stop_at_last_layers"], after["sd_vae"]) == (2, "None")
    for wrong, status in (({"CLIP_stop_at_last_layers": 99}, 422), ({"sd_model_checkpoint": "nowhere"}, 404), ({"sd_vae": "nowhere"}, 404)):
        with pytest.raises(Refused) as refused:
            client.post("options", wrong)
        assert refused.value.status == status
    client.post("options", {"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic", "sd_model_checkpoint": "", "made_up": None})
    assert client.get("options") == before


def test_options_have_every_name_of_a1111_s_and_come_back_as_they_are_set(client: Client, served: Engine) -> None:
    before = client.get("options")
    assert {"send_seed", "send_size", "use_old_scheduling", "interrogate_clip_num_beams", "lora_preferred_name", "hypertile_enable_unet", "canvas_hotkey_zoom"} <= set(before)
    assert set(DEFAULTS) <= set(before)
    assert before["samples_save"] is True
    client.post("options", before)
    assert client.get("options") == before
    answer = client.http.post("/sdapi/v1/options", json={"send_seed": False, "ui_tab_order": ["txt2img"], "s_churn": 2.5, "samples_save": False})
    assert answer.headers["X-Ignored-Fields"] == "samples_save, send_seed, ui_tab_order"
    after = client.get("options")
    assert (after["send_seed"], after["ui_tab_order"], after["s_churn"], after["samples_save"]) == (False, ["txt2img"], 2.5, True)
    assert Engine(served.paths).preferences() == served.preferences()
    with pytest.raises(Refused, match="999"):
        client.post("options", {"s_churn": 999})
    kept_file(served.paths.settings).unlink()
    assert client.get("options")["send_seed"] is True
    kept_file(served.paths.settings).write_text("{")
    with pytest.raises(Refused, match=r"a1111-options\.json can't be read"):
        client.get("options")
    kept_file(served.paths.settings).unlink()
    assert set(FLAGS) <= set(client.get("cmd-flags"))


def test_flags_scripts_and_memory(client: Client, served: Engine) -> None:
    assert client.get("cmd-flags")["data_dir"] == str(served.paths.root)
    assert "x/y/z plot" in client.get("scripts")["txt2img"]
    assert [tab for tab, names in client.get("scripts").items() if "sd upscale" in names] == ["img2img"]
    assert {"name", "is_alwayson", "is_img2img", "args"} == set(client.get("script-info")[0])
    memory = client.get("memory")
    assert 0 < memory["ram"]["free"] < memory["ram"]["total"]
    assert memory["cuda"]
    assert client.http.get("/internal/ping").json() == {}


def test_an_embedding_is_created_trained_and_listed(client: Client, served: Engine, tmp_path: Path) -> None:
    made = client.post("create/embedding", {"name": "api/hero", "num_vectors_per_token": 2, "init_text": "monster"})
    file = served.paths.embeddings / "apihero.pt"
    assert made == {"info": f"create embedding filename: {file}"}
    with pytest.raises(Refused) as refused:
        client.post("create/embedding", {"name": "apihero"})
    assert (refused.value.status, "taken" in refused.value.body["detail"]) == (409, True)
    before = file.read_bytes()
    data = tmp_path / "data"
    data.mkdir()
    for number, picture in enumerate(shelves.images(shelves.sample_pictures())[:2]):
        Image.open(picture).convert("RGB").save(data / f"{number}.png")
    body = {
        "embedding_name": "apihero",
        "learn_rate": 0.01,
        "data_root": str(data),
        "training_width": 64,
        "training_height": 64,
        "steps": 3,
        "template_filename": "subject.txt",
        "create_image_every": 0,
    }
    trained = client.post(
        "train/embedding", {**body, "id_task": "task(train)", "save_embedding_every": 0, "log_directory": "textual_inversion", "clip_grad_mode": "disabled", "clip_grad_value": "0.1"}
    )
    assert trained["info"].startswith(f"train embedding complete: filename: {file}")
    assert file.read_bytes() != before
    end = time.monotonic() + 30
    while client.get("embeddings")["loaded"].get("apihero", {}).get("step") != 3 and time.monotonic() < end:
        time.sleep(0.05)
    assert client.get("embeddings")["loaded"]["apihero"] == {
        "step": 3,
        "sd_checkpoint": None,
        "sd_checkpoint_name": None,
        "shape": client.get("embeddings")["loaded"]["apihero"]["shape"],
        "vectors": 2,
    }


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("create/embedding", {"name": ""}, 422, "Name"),
        ("create/embedding", {"name": "x", "num_vectors_per_token": 76}, 422, "76"),
        ("train/embedding", {"embedding_name": "nobody", "data_root": "/nowhere"}, 422, "nobody"),
        ("train/embedding", {"embedding_name": "x", "data_root": "/nowhere", "use_weight": True}, 422, "use_weight"),
        ("train/embedding", {"embedding_name": "x", "data_root": "/nowhere", "learn_rate": "fast"}, 422, "fast"),
        ("preprocess", {"process_src": "/nowhere", "process_dst": "/tmp/x"}, 422, "/nowhere"),
        ("preprocess", {"process_src": "/nowhere", "process_dst": "/tmp/x", "process_split": True, "process_multicrop": True}, 422, "process_split and process_multicrop"),
        ("preprocess", {"process_src": "/nowhere", "process_dst": "/tmp/x", "process_multicrop": True, "process_multicrop_mindim": 9}, 422, "smallest"),
        ("preprocess", {"process_src": "/nowhere", "process_dst": "/tmp/x", "process_split": True, "overlap_ratio": 2}, 422, "Overlap ratio"),
        ("interrogate", {"image": base64_of(Image.new("RGB", (8, 8))), "model": "oracle"}, 404, "oracle"),
        ("interrogate", {"image": ""}, 404, "no picture"),
        ("extra-single-image", {"image": base64_of(Image.new("RGB", (8, 8))), "upscaler_1": "magic"}, 404, "magic"),
        ("extra-single-image", {"image": base64_of(Image.new("RGB", (8, 8))), "gfpgan_visibility": 1}, 422, "face restorer"),
        ("extra-batch-images", {"imageList": []}, 404, "imageList"),
        ("png-info", {"image": base64.b64encode(b"no picture").decode()}, 422, "not a picture"),
    ],
)
def test_mistakes_are_told_with_a_status_of_the_caller(client: Client, path: str, body: dict, status: int, word: str) -> None:
    with pytest.raises(Refused) as refused:
        client.post(path, body)
    assert (refused.value.status, word in refused.value.body["detail"]) == (status, True), refused.value.body


def test_pictures_are_prepared(client: Client, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    Image.new("RGB", (200, 100), "red").save(source / "a.png")
    body = {"process_src": str(source), "process_dst": str(tmp_path / "out"), "process_width": 64, "process_height": 64, "process_flip": True}
    assert client.post("preprocess", body) == {"info": "preprocess complete"}
    assert [Image.open(p).size for p in sorted((tmp_path / "out").glob("*.png"))] == [(64, 64)] * 2


@pytest.mark.parametrize(
    ("asked", "sizes"),
    [
        ({"process_split": True, "split_threshold": 0.9, "overlap_ratio": 0.1}, [(64, 64)] * 6),
        ({"process_split": True, "split_threshold": 0.1}, [(64, 64)]),
        ({"process_keep_original_size": True}, [(600, 120)]),
        ({"process_multicrop": True, "process_multicrop_mindim": 64, "process_multicrop_maxdim": 320, "process_multicrop_maxarea": 32768, "process_multicrop_threshold": 0.2}, [(320, 64)]),
        ({"process_focal_crop": True, "process_focal_crop_debug": True}, [(64, 64)]),
    ],
    ids=["split", "short enough", "keep", "auto-sized", "debug"],
)
def test_every_way_of_a1111s_preprocessing_is_there(client: Client, tmp_path: Path, asked: dict, sizes: list[tuple[int, int]]) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    Image.linear_gradient("L").resize((600, 120)).convert("RGB").save(source / "a.png")
    body = {"process_src": str(source), "process_dst": str(out), "process_width": 64, "process_height": 64, **asked}
    assert client.post("preprocess", body) == {"info": "preprocess complete"}
    assert [Image.open(p).size for p in sorted(out.glob("*.png"))] == sizes
    assert (out / "debug").is_dir() == ("process_focal_crop_debug" in asked)


def test_clip_means_the_clip_interrogator_once_one_is_on_the_shelf(root: Paths) -> None:
    engine = Engine(root)
    picture = base64_of(Image.new("RGB", (8, 8)))

    def asked(model: str) -> str:
        """Which captioner a client's word becomes; nobody works here, so the job is stopped."""
        with TestClient(bare_app(engine)) as http:
            thread = threading.Thread(target=lambda: http.post("/sdapi/v1/interrogate", json={"image": picture, "model": model}))
            thread.start()
            while not (waiting := engine.active("interrogate")) and thread.is_alive():
                time.sleep(0.01)
            engine.ask(waiting.id, "stop")
            thread.join(30)
        return waiting.request["captioner"]

    assert [asked("clip"), asked("blip"), asked("deepdanbooru")] == ["BLIP", "BLIP", "DeepBooru"]
    (root.models / "CLIP" / "small").mkdir(parents=True)
    (root.models / "CLIP" / "small" / "open_clip_config.json").write_text("{}")
    assert [asked("clip"), asked("CLIP"), asked("blip")] == ["CLIP interrogator", "CLIP interrogator", "BLIP"]


def test_a_picture_is_put_into_words(client: Client) -> None:
    picture = base64_of(Image.open(shelves.images(shelves.sample_pictures())[0]))
    assert client.post("interrogate", {"image": picture, "model": "clip"})["caption"]
    tags = client.post("interrogate", {"image": f"data:image/png;base64,{picture}", "model": "deepdanbooru"})["caption"]
    assert isinstance(tags, str)


def test_a_failed_job_is_the_callers_when_the_worker_says_so(client: Client, served: Engine) -> None:
    (served.paths.embeddings / "spoilt.pt").write_bytes(b"nothing")
    with pytest.raises(Refused) as refused:
        client.txt2img(prompt="a spoilt cat", width=64, height=64)
    (served.paths.embeddings / "spoilt.pt").unlink()
    assert refused.value.status >= 400
    assert "spoilt" in refused.value.body["detail"]


def test_a_training_can_be_interrupted_and_pictures_are_painted_meanwhile(client: Client, served: Engine) -> None:
    client.post("create/embedding", {"name": "long", "init_text": "monster"})
    body = {"embedding_name": "long", "data_root": str(shelves.sample_pictures()), "training_width": 64, "training_height": 64, "template_filename": "subject", "create_image_every": 0}
    told: list[dict] = []
    thread = threading.Thread(target=lambda: told.append(client.post("train/embedding", body)))
    thread.start()
    end = time.monotonic() + 90
    while client.get("progress")["state"]["sampling_step"] < 2 and thread.is_alive() and time.monotonic() < end:
        time.sleep(0.05)
    label = client.get("progress")["state"]["job"]
    try:
        painted = client.txt2img(prompt="a cat", width=64, height=64)[0]
    finally:
        client.post("interrupt")
        thread.join(60)
    assert (label, len(painted)) == ("train-embedding", 1)
    assert served.jobs(1, "train")[0].state is State.STOPPED
    assert told[0]["info"].startswith("train embedding complete")
