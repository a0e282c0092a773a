"""Scripts and extras by A1111's routes, and models that leave memory, with a real worker on the tiny world."""

import pytest
from PIL import Image

from studio.api.scripts import scripted
from studio.api.sdapi_models import Txt2Img
from studio.engine import Engine
from studio.errors import InputError
from studio.requests import GenerateRequest, PlotRequest, PromptMatrixRequest, PromptsFromFileRequest, SdUpscaleRequest
from tests.api.served import EVERY_FIELD, Client, Refused, base64_of, picture_of

SMALL = {"steps": 1, "width": 64, "height": 64}


def test_a_plot_by_numbers_as_clients_send_it(client: Client, served: Engine) -> None:
    arguments = [4, "1,2", [], 6, "", ["3", "4"], 0, "", [], True, False, False, False, False, False, False, 2, False]
    images, info = client.txt2img(**SMALL, prompt="a cat", script_name="X/Y/Z plot", script_args=arguments)
    request = served.jobs(1)[0].request
    assert (request["x_axis"], request["x_values"], request["y_axis"], request["y_values"], request["margin"]) == ("Steps", "1,2", "CFG Scale", "3, 4", 2)
    assert images[0].width > 128
    assert info["index_of_first_image"] == 1
    assert info["prompt"] == "a cat"
    assert len(info["infotexts"]) == len(images)


def test_scripts_become_requests() -> None:
    def made(name: str, arguments: list) -> object:
        return scripted(Txt2Img(script_name=name, script_args=arguments), GenerateRequest(prompt="a|b|c"))

    assert made("", []) == made("None", []) == GenerateRequest(prompt="a|b|c")
    plot = made("x/y/z plot", ["Seed", "1-3", [], "Sampler", "", ["Euler", "DDIM"]])
    assert isinstance(plot, PlotRequest)
    assert (plot.x_axis, plot.x_values, plot.y_values, plot.z_axis) == ("Seed", "1-3", "Euler, DDIM", "Nothing")
    matrix = made("Prompt Matrix", [True, False, "positive", "space", 4])
    assert isinstance(matrix, PromptMatrixRequest)
    assert (matrix.put_at_start, matrix.delimiter, matrix.margin) == (True, "space", 4)
    lines = made("prompts from file or textbox", [True, False, "a dog\na cat"])
    assert isinstance(lines, PromptsFromFileRequest)
    assert (lines.iterate_seed, lines.text) == (True, "a dog\na cat")
    upscale = scripted(Txt2Img(script_name="sd upscale", script_args=["", 32, 1, 1.5]), GenerateRequest(init_image="a.png", width=128, height=128))
    assert isinstance(upscale, SdUpscaleRequest)
    assert (upscale.overlap, upscale.upscaler, upscale.scale, upscale.base.init_image) == (32, "Lanczos", 1.5, "a.png")
    with pytest.raises(InputError, match="use it in img2img"):
        made("SD upscale", ["", 64, "None", 2])
    newer = made("prompts from file or textbox", [False, True, "end", "a dog"])
    assert (newer.same_seed, newer.position, newer.text) == (True, "end", "a dog")


@pytest.mark.parametrize("arguments", [[99, "1", []], ["Magic", "1", []], [1, "one", []], [4, "1-100000", []]])
def test_a_plot_that_cannot_be_is_the_callers(client: Client, arguments: list) -> None:
    with pytest.raises(Refused) as refused:
        client.post("txt2img", {**EVERY_FIELD, **SMALL, "script_name": "X/Y/Z plot", "script_args": arguments})
    assert refused.value.status == 422


def test_extras_enlarge_one_picture_and_keep_its_infotext(client: Client) -> None:
    painted = client.post("txt2img", {**EVERY_FIELD, **SMALL, "prompt": "a cat"})["images"][0]
    done = client.post("extra-single-image", {"image": painted, "upscaling_resize": 2, "upscaler_1": "lanczos", "upscaler_2": "Nearest", "extras_upscaler_2_visibility": 0.5})
    assert set(done) == {"html_info", "image"}
    larger = picture_of(done["image"])
    assert larger.size == (128, 128)
    assert larger.info["parameters"] == picture_of(painted).info["parameters"]
    assert "Lanczos" in larger.info["postprocessing"]


@pytest.mark.parametrize(("crop", "size"), [(True, (96, 64)), (False, (64, 64))])
def test_extras_fit_a_size(client: Client, crop: bool, size: tuple[int, int]) -> None:
    body = {"resize_mode": 1, "upscaling_resize_w": 96, "upscaling_resize_h": 64, "upscaling_crop": crop, "upscaler_1": "Nearest", "image": base64_of(Image.new("RGB", (32, 32), "red"))}
    assert picture_of(client.post("extra-single-image", body)["image"]).size == size


def test_extras_of_many_pictures(client: Client) -> None:
    pictures = [{"data": base64_of(Image.new("RGB", (16, 8), colour)), "name": f"{colour}.png"} for colour in ("red", "blue")]
    done = client.post("extra-batch-images", {"imageList": pictures, "upscaling_resize": 3, "upscaler_1": "Nearest"})
    found = [picture_of(text) for text in done["images"]]
    assert [(p.size, p.convert("RGB").getpixel((5, 5))) for p in found] == [((48, 24), (255, 0, 0)), ((48, 24), (0, 0, 255))]


def test_models_leave_memory_and_come_back(client: Client, served: Engine) -> None:
    client.txt2img(**SMALL, prompt="a cat")
    assert client.post("unload-checkpoint") == {}
    assert served.jobs(1)[0].result["freed"] > 0
    assert served.jobs(1)[0].result["resident"] == []
    assert client.post("reload-checkpoint") == {}
    assert "tiny-world" in {entry["name"] for entry in served.jobs(1)[0].result["resident"]}
