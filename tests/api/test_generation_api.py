"""Painting by A1111's routes, with a real worker on the tiny world."""

import json
import threading
import time

import pytest
from PIL import Image, ImageDraw

from studio.engine import Engine
from studio.jobs import State
from studio.pasting import read_infotext
from tests.api.served import EVERY_FIELD, Client, Refused, base64_of, picture_of

INFO_KEYS = {
    *("prompt", "all_prompts", "negative_prompt", "all_negative_prompts", "seed", "all_seeds", "subseed", "all_subseeds", "subseed_strength", "width", "height", "sampler_name", "cfg_scale"),
    *("steps", "batch_size", "restore_faces", "face_restoration_model", "sd_model_name", "sd_model_hash", "sd_vae_name", "sd_vae_hash", "seed_resize_from_w", "seed_resize_from_h"),
    *("denoising_strength", "extra_generation_params", "index_of_first_image", "infotexts", "styles", "job_timestamp", "clip_skip", "is_using_inpainting_conditioning", "version"),
}


def until(condition: object, seconds: float = 120.0) -> object:
    """Wait for something to be true and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():  # type: ignore[operator]
            return value
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def test_txt2img_as_a_common_client_sends_it(client: Client) -> None:
    images, info = client.txt2img(prompt="a red cat", sampler_index="DPM++ 2M Karras")
    assert [image.size for image in images] == [(128, 128)]
    assert set(info) >= INFO_KEYS
    assert (info["prompt"], info["seed"], info["sampler_name"], info["steps"]) == ("a red cat", 1, "DPM++ 2M", 2)
    assert info["infotexts"] == [images[0].info["parameters"]]
    facts = read_infotext(images[0].info["parameters"])
    assert (facts["Prompt"], facts["Negative prompt"], facts["Steps"], facts["Seed"]) == ("a red cat", "blurry", "2", "1")
    again, _ = client.txt2img(prompt="a red cat", sampler_index="DPM++ 2M Karras")
    assert again[0].tobytes() == images[0].tobytes()


def test_a_batch_has_a_seed_for_each_picture(client: Client) -> None:
    images, info = client.txt2img(prompt="a cat", batch_size=2, seed=5)
    assert len(images) == 2
    assert info["all_seeds"] == [5, 6]
    assert len(info["infotexts"]) == 2
    answer = client.post("txt2img", {**EVERY_FIELD, "prompt": "a cat", "send_images": False})
    assert answer["images"] == []
    assert answer["parameters"]["prompt"] == "a cat"


def test_the_defaults_are_the_apis_own(client: Client, served: Engine) -> None:
    client.post("txt2img", {"prompt": "x", "steps": 1, "width": 64, "height": 64, "seed": 3})
    request = served.jobs(1)[0].request
    assert (request["sampler"], request["cfg_scale"], request["batch_count"], request["batch_size"]) == ("Euler", 7.0, 1, 1)


def test_img2img_repaints_under_the_mask_only(client: Client, served: Engine) -> None:
    picture, mask = Image.new("RGB", (128, 128), "green"), Image.new("L", (128, 128))
    ImageDraw.Draw(mask).rectangle((64, 64, 127, 127), fill=255)
    images, _ = client.img2img(picture, mask, prompt="a cat", mask_blur=0, inpaint_full_res=False, inpainting_fill=1)
    assert images[0].size == (128, 128)
    assert images[0].convert("RGB").crop((0, 0, 60, 60)).tobytes() == picture.crop((0, 0, 60, 60)).tobytes()
    assert images[0].convert("RGB").crop((64, 64, 128, 128)).tobytes() != picture.crop((64, 64, 128, 128)).tobytes()
    request = served.jobs(1)[0].request
    assert (request["masked_content"], request["inpaint_area"], request["mask_blur"]) == ("original", "Whole picture", 0)


def test_img2img_does_not_echo_its_pictures(client: Client) -> None:
    text, mask = base64_of(Image.new("RGB", (64, 64))), base64_of(Image.new("L", (64, 64), 255))
    body = {"init_images": [f"data:image/png;base64,{text}"], "mask": mask, "steps": 1, "width": 64, "height": 64, "denoising_strength": 0.5, "send_images": False}
    assert client.post("img2img", body)["parameters"]["init_images"] is None
    assert client.post("img2img", {**body, "include_init_images": True})["parameters"]["init_images"] == body["init_images"]


def test_png_info_reads_what_was_painted(client: Client) -> None:
    painted = client.post("txt2img", {**EVERY_FIELD, "prompt": "a cat, blue: yes", "seed": 77})["images"][0]
    told = client.post("png-info", {"image": painted})
    assert told["info"] == picture_of(painted).info["parameters"]
    assert (told["parameters"]["Prompt"], told["parameters"]["Seed"], told["parameters"]["Size-1"]) == ("a cat, blue: yes", "77", "128")
    assert client.post("png-info", {"image": base64_of(Image.new("RGB", (8, 8)))}) == {"info": "", "items": {}, "parameters": {}}


def test_an_infotext_fills_what_the_client_left_open(client: Client, served: Engine) -> None:
    text = "a dog\nNegative prompt: fog\nSteps: 3, Sampler: Heun, CFG scale: 3, Seed: 9, Size: 64x64"
    client.post("txt2img", {"infotext": text, "cfg_scale": 2, "send_images": False})
    request = served.jobs(1)[0].request
    assert (request["prompt"], request["negative_prompt"], request["steps"], request["sampler"], request["seed"], request["cfg_scale"]) == ("a dog", "fog", 3, "Heun", 9, 2.0)


def test_settings_override_for_one_call(client: Client, served: Engine) -> None:
    small = {"steps": 1, "width": 64, "height": 64, "send_images": False}
    client.post(
        "txt2img", {**small, "override_settings": {"CLIP_stop_at_last_layers": 2, "sd_model_checkpoint": "tiny-world", "eta_noise_seed_delta": 31337, "use_old_scheduling": True, "unheard_of": 1}}
    )
    request = served.jobs(1)[0].request
    assert (request["clip_skip"], request["checkpoint"], request["ensd"]) == (2, "tiny-world", 31337)
    assert client.get("options")["CLIP_stop_at_last_layers"] == 1


def test_settings_that_were_set_count_and_what_has_no_effect_is_told(client: Client, served: Engine) -> None:
    small = {"steps": 1, "width": 64, "height": 64, "send_images": False}
    kept = {"s_churn": 3.0, "eta_ancestral": 0.25, "eta_ddim": 0.75, "img2img_background_color": "#102030", "send_seed": False}
    client.post("options", kept)
    for sampler, eta in (("Euler a", 0.25), ("DDIM", 0.75)):
        client.post("txt2img", {**small, "sampler_name": sampler})
        request = served.jobs(1)[0].request
        assert (request["eta"], request["s_churn"], request["background_color"]) == (eta, 3.0, "#102030")
    told = client.post("txt2img", {**small, "sampler_name": "DDIM", "restore_faces": True, "override_settings": {"eta_ddim": 0.5, "eta_ancestral": 0.1, "token_merging_ratio": 0.5}})
    assert served.jobs(1)[0].request["eta"] == 0.5
    assert json.loads(told["info"])["notes"] == [
        "restore_faces: there is no face restoration model here; the images are as they were generated.",
        "override_settings: token_merging_ratio has no effect here.",
    ]
    client.post("txt2img", {**small, "sampler_name": "DDIM", "eta": 0.0, "s_churn": 0.0})
    assert (served.jobs(1)[0].request["eta"], served.jobs(1)[0].request["s_churn"]) == (0.0, 0.0)
    client.post("options", {**dict.fromkeys(kept), "img2img_background_color": "#ffffff"})


def test_progress_and_interrupt_while_it_runs(client: Client, served: Engine) -> None:
    answers: list[dict] = []
    thread = threading.Thread(target=lambda: answers.append(client.post("txt2img", {**EVERY_FIELD, "prompt": "a cat", "steps": 150, "batch_size": 4, "force_task_id": "task(seven)"})))
    thread.start()
    told = until(lambda: not thread.is_alive() or ((p := client.get("progress"))["state"]["sampling_step"] > 1 and p["current_image"] and p))
    assert isinstance(told, dict), "it ended before it was seen"
    assert 0 < told["progress"] < 1
    assert (told["state"]["sampling_steps"], told["state"]["job_count"]) == (150, 1)
    picture_of(told["current_image"])
    assert client.get("progress?skip_current_image=true")["current_image"] is None
    task = client.http.post("/internal/progress", json={"id_task": "task(seven)", "id_live_preview": -1}).json()
    assert (task["active"], task["completed"]) == (True, False)
    assert task["live_preview"].startswith("data:image/")
    assert client.post("interrupt") == {}
    thread.join(60)
    assert served.jobs(1)[0].state is State.STOPPED
    assert len(answers[0]["images"]) == 4
    idle = client.get("progress")
    assert (idle["progress"], idle["state"]["job_count"]) == (0, 0)
    assert client.http.post("/internal/progress", json={"id_task": "task(seven)"}).json()["completed"] is True
    assert client.http.get("/internal/pending-tasks").json() == {"size": 0, "tasks": []}


def test_many_clients_wait_at_once(client: Client) -> None:
    bodies = [{**EVERY_FIELD, "prompt": "a cat", "seed": seed, "steps": 1, "width": 64, "height": 64} for seed in range(12)]
    seeds: list[int] = []
    threads = [threading.Thread(target=lambda body=body: seeds.append(json.loads(client.post("txt2img", body)["info"])["seed"])) for body in bodies]
    for thread in threads:
        thread.start()
    assert client.get("samplers")
    for thread in threads:
        thread.join(120)
    assert sorted(seeds) == list(range(12))


@pytest.mark.parametrize(
    ("fields", "status", "word"),
    [
        ({"sampler_name": "magic"}, 400, "Sampler not found"),
        ({"scheduler": "magic"}, 422, "Scheduler not found"),
        ({"override_settings": {"sd_model_checkpoint": "nowhere.ckpt"}}, 404, "nowhere.ckpt"),
        ({"override_settings": {"sd_vae": "nowhere"}}, 404, "nowhere"),
        ({"width": 513}, 422, "513"),
        ({"width": 0, "height": -1}, 422, "-1"),
        ({"steps": 10**6}, 422, "1000000"),
        ({"steps": "1,5"}, 422, "1,5"),
        ({"script_name": "magic"}, 422, "magic"),
        ({"alwayson_scripts": {"controlnet": {"args": []}}}, 422, "controlnet"),
        ({"refiner_checkpoint": "x", "refiner_switch_at": 0.8}, 422, "refiner"),
    ],
)
def test_mistakes_are_told_in_a1111s_shape(client: Client, fields: dict, status: int, word: str) -> None:
    with pytest.raises(Refused) as refused:
        client.post("txt2img", {**EVERY_FIELD, **fields})
    assert refused.value.status == status
    assert set(refused.value.body) == {"error", "detail", "body", "errors"}
    assert word in refused.value.body["detail"]


@pytest.mark.parametrize(
    ("fields", "status", "word"),
    [
        ({}, 404, "init_images"),
        ({"init_images": None}, 404, "init_images"),
        ({"init_images": ["https://example.org/x.png"]}, 422, "not fetched"),
        ({"init_images": ["%%%"]}, 422, "base64"),
        ({"init_images": ["aGVsbG8="]}, 422, "not a picture"),
        ({"init_images": [base64_of(Image.new("1", (20000, 20000)))]}, 413, "too many pixels"),
        ({"init_images": [base64_of(Image.new("1", (11700, 11700)))]}, 413, "11700x11700"),
        ({"init_images": [base64_of(Image.new("RGB", (8, 8)))] * 2}, 422, "one picture"),
        ({"init_images": [base64_of(Image.new("RGB", (8, 8)))], "inpainting_fill": 7, "mask": base64_of(Image.new("L", (8, 8)))}, 422, "inpainting_fill"),
        ({"init_images": [base64_of(Image.new("RGB", (8, 8)))], "mask_blur_x": 3}, 422, "mask_blur"),
    ],
)
def test_pictures_that_cannot_be_used(client: Client, fields: dict, status: int, word: str) -> None:
    with pytest.raises(Refused) as refused:
        client.post("img2img", fields)
    assert (refused.value.status, word in refused.value.body["detail"]) == (status, True)


def test_soft_inpainting_by_position_and_by_label(client: Client, served: Engine) -> None:
    picture, mask = base64_of(Image.new("RGB", (64, 64))), base64_of(Image.new("L", (64, 64), 255))
    body = {"init_images": [picture], "mask": mask, "steps": 1, "width": 64, "height": 64, "send_images": False, "inpaint_full_res": False}
    for arguments in ([True, 2.0, 0.25], [{"Soft inpainting": True, "Schedule bias": 2.0, "Preservation strength": 0.25}]):
        client.post("img2img", {**body, "alwayson_scripts": {"Soft Inpainting": {"args": arguments}}})
        request = served.jobs(1)[0].request
        assert (request["soft_inpainting"], request["soft_schedule_bias"], request["soft_preservation"]) == (True, 2.0, 0.25)
