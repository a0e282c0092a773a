"""Weights come from the hub on a click, against a server on this machine: cut, stopped, resumed, damaged, refused, and no network at all."""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from studio.dataset import hub as hub_module
from studio.dataset.captioners.taggers import load_wd14
from studio.diffusion.cache import ModelCache
from studio.errors import Conflict, InputError, NotFound, OutOfSpace, StudioError
from studio.jobs import SilentLane
from studio.projects import captioner_shelf
from studio.projects.captioner_shelf import CATALOGUE_OF_MODELS, FOLDERS, available
from studio.requests.download import DownloadRequest
from studio.services import download
from studio.services.desk import Desk
from studio.settings import Paths
from tests.dataset.captioners.small import picture, write_wd14
from tests.services.hub_server import Hub, serving

LABEL = "WD14 ViT v3"
OFFER = next(offer for offer in CATALOGUE_OF_MODELS if offer.label == LABEL)
TAGS = [("safe", 9), ("hat", 0), ("miku", 4)]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of a small tagger, and others that lie beside it in its repository."""
    folder = write_wd14(tmp_path_factory.mktemp("published"), TAGS)
    extra = {"README.md": b"words", "model.onnx": b"x" * 999, ".gitattributes": b"", "sub/config.json": b"{}"}
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())} | extra


@pytest.fixture
def hub(published: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub, which every request goes to; pauses are short."""
    monkeypatch.setattr(hub_module, "PAUSE", 0.01)
    with serving(Hub(dict(published), OFFER.repository)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv("HF_TOKEN", "secret")
        yield hub


@pytest.fixture
def desk(root: Paths) -> Desk:
    """A worker's desk without a GPU."""
    return Desk(root, ModelCache(root, device="cpu"))


def fetch(desk: Desk, lane: SilentLane, label: str = LABEL) -> dict[str, Any]:
    """A click."""
    return download.run(DownloadRequest(captioner=label), lane, desk)


def final(desk: Desk) -> Path:
    """Where the tagger appears."""
    return desk.paths.models / "WD14" / OFFER.name


def left(desk: Desk) -> list[str]:
    """What lies in the shelf's folder."""
    return sorted(p.name for p in (desk.paths.models / "WD14").iterdir())


def test_a_click_brings_a_captioner_that_speaks(hub: Hub, published: dict[str, bytes], desk: Desk, lane: SilentLane) -> None:
    assert LABEL not in [entry.label for entry in available(desk.paths)]
    assert fetch(desk, lane) == {"captioner": LABEL, "path": str(final(desk)), "fetched": True}
    assert {p.name: p.read_bytes() for p in final(desk).iterdir()} == {name: published[name] for name in ("config.json", "model.safetensors", "selected_tags.csv")}
    assert [entry.label for entry in available(desk.paths) if entry.kind == "WD14"] == [f"WD14: {OFFER.name}"]
    assert load_wd14(final(desk), torch.device("cpu")).scores([picture()]).shape == (1, 3)
    assert left(desk) == [OFFER.name]


def test_only_the_files_that_are_needed_are_asked_for_and_no_token_is_sent(hub: Hub, desk: Desk, lane: SilentLane) -> None:
    fetch(desk, lane)
    assert {path.rpartition("/")[2] for _, path, _ in hub.asked if path.startswith("/cdn")} == {"config.json", "model.safetensors", "selected_tags.csv"}
    assert all("Authorization" not in headers for headers in hub.headers)
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_progress_grows_to_the_whole(hub: Hub, desk: Desk, lane: SilentLane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "OFTEN", 0.0)
    monkeypatch.setattr(hub_module, "CHUNK", 4096)
    fetch(desk, lane)
    steps = [data["step"] for kind, data in lane.events if kind == "progress"]
    last = lane.events[-1][1]
    assert steps == sorted(steps)
    assert len(set(steps)) > 10
    assert last["step"] == last["total"] == sum(p.stat().st_size for p in final(desk).iterdir())


def test_what_is_there_is_not_fetched_again(hub: Hub, desk: Desk, lane: SilentLane) -> None:
    fetch(desk, lane)
    hub.asked.clear()
    assert fetch(desk, lane)["fetched"] is False
    assert hub.asked == []


def test_a_cut_connection_is_taken_up_where_it_broke(hub: Hub, published: dict[str, bytes], desk: Desk, lane: SilentLane) -> None:
    hub.cut_after["model.safetensors"] = [5000, 3000]
    fetch(desk, lane)
    assert hub.ranges_of("model.safetensors") == ["", "bytes=5000-", "bytes=8000-"]
    assert (final(desk) / "model.safetensors").read_bytes() == published["model.safetensors"]


def test_a_server_without_ranges_is_taken_from_the_start(hub: Hub, published: dict[str, bytes], desk: Desk, lane: SilentLane) -> None:
    hub.ranges, hub.cut_after["model.safetensors"] = False, [5000]
    fetch(desk, lane)
    assert (final(desk) / "model.safetensors").read_bytes() == published["model.safetensors"]


def test_a_server_that_tells_no_lengths_is_understood(hub: Hub, published: dict[str, bytes], desk: Desk, lane: SilentLane) -> None:
    hub.lengths, hub.cut_after["model.safetensors"] = False, [5000]
    fetch(desk, lane)
    assert (final(desk) / "model.safetensors").read_bytes() == published["model.safetensors"]


def test_a_connection_that_stays_cut_is_told_and_the_next_click_goes_on(hub: Hub, published: dict[str, bytes], desk: Desk, lane: SilentLane) -> None:
    hub.cut_after["model.safetensors"] = [7000] + [0] * hub_module.TRIES
    with pytest.raises(StudioError, match=r"cannot be reached.*What was fetched is kept"):
        fetch(desk, lane)
    assert available(desk.paths)[-1].kind != "WD14"
    assert left(desk) == [f".fetching-{OFFER.name}"]
    hub.asked.clear()
    fetch(desk, lane)
    assert hub.ranges_of("model.safetensors") == ["bytes=7000-"]
    assert hub.ranges_of("config.json") == []
    assert (final(desk) / "model.safetensors").read_bytes() == published["model.safetensors"]


@dataclass
class StopAfter(SilentLane):
    """A person who presses Stop after so many bytes."""

    bytes: int = 0

    def emit(self, kind: str, /, **data: Any) -> None:
        """Keep the event and look at the count."""
        super().emit(kind, **data)
        self.stop = data.get("step", 0) > self.bytes


def test_a_stop_leaves_nothing_that_looks_whole_and_the_next_click_goes_on(hub: Hub, desk: Desk, lane: SilentLane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "OFTEN", 0.0)
    monkeypatch.setattr(hub_module, "CHUNK", 1024)
    assert fetch(desk, StopAfter(bytes=20_000)) == {"captioner": LABEL, "path": "", "fetched": False, "stopped": True}
    assert not final(desk).exists()
    assert all(entry.kind != "WD14" for entry in available(desk.paths))
    hub.asked.clear()
    fetch(desk, lane)
    assert [wanted for wanted in hub.ranges_of("model.safetensors") if wanted.startswith("bytes=")]


def test_a_file_that_changed_at_the_source_meanwhile_is_taken_from_the_start(hub: Hub, published: dict[str, bytes], desk: Desk, lane: SilentLane) -> None:
    hub.cut_after["model.safetensors"] = [7000] + [0] * hub_module.TRIES
    with pytest.raises(StudioError):
        fetch(desk, lane)
    hub.files["model.safetensors"] = published["model.safetensors"][::-1]
    fetch(desk, lane)
    assert (final(desk) / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_bytes_that_are_not_what_the_hub_promised_are_thrown_away(hub: Hub, desk: Desk, lane: SilentLane, name: str) -> None:
    hub.lie[name] = bytes(len(hub.files[name]))
    with pytest.raises(StudioError, match=f"{name} arrived damaged"):
        fetch(desk, lane)
    assert not final(desk).exists()
    hub.lie.clear()
    fetch(desk, lane)
    assert (final(desk) / name).read_bytes() == hub.files[name]


def test_a_finished_file_that_was_damaged_on_disk_is_fetched_again(hub: Hub, published: dict[str, bytes], desk: Desk, lane: SilentLane) -> None:
    hub.status["selected_tags.csv"] = 404
    with pytest.raises(NotFound):
        fetch(desk, lane)
    file = final(desk).with_name(f".fetching-{OFFER.name}") / "model.safetensors"
    file.write_bytes(bytes(file.stat().st_size))
    hub.status.clear()
    fetch(desk, lane)
    assert (final(desk) / "model.safetensors").read_bytes() == published["model.safetensors"]


@pytest.mark.parametrize(("status", "words"), [(404, "any more"), (401, "freely"), (403, "freely"), (503, "answered 503")])
@pytest.mark.parametrize("where", ["", "model.safetensors"])
def test_a_refusal_is_told_in_words(hub: Hub, desk: Desk, lane: SilentLane, where: str, status: int, words: str) -> None:
    hub.status[where] = status
    with pytest.raises(StudioError, match=words) as caught:
        fetch(desk, lane)
    assert caught.value.hint
    assert not final(desk).exists()


def test_no_network_is_told_in_words(desk: Desk, lane: SilentLane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "PAUSE", 0.01)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(StudioError, match=r"127\.0\.0\.1:\d+ cannot be reached.*HF_ENDPOINT") as caught:
            fetch(desk, lane)
    assert caught.value.code == "unreachable"


def test_an_endpoint_that_is_no_address_is_told_in_words(desk: Desk, lane: SilentLane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    with pytest.raises(InputError, match=r"HF_ENDPOINT is 'file:///etc'"):
        fetch(desk, lane)


def test_an_answer_that_is_no_listing_is_told_in_words(hub: Hub, desk: Desk, lane: SilentLane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "listing", lambda self: ["what"])
    with pytest.raises(StudioError, match="not understood"):
        fetch(desk, lane)
    monkeypatch.setattr(hub_module, "_tried", lambda address, host: b"<html>please log in</html>")
    with pytest.raises(StudioError, match="not understood"):
        fetch(desk, lane)


def test_names_that_lead_elsewhere_are_not_taken(hub: Hub, desk: Desk, lane: SilentLane) -> None:
    hub.files = {"../evil.safetensors": b"x", "..\\evil.safetensors": b"x", ".hidden.safetensors": b"x", **hub.files}
    fetch(desk, lane)
    assert not list(desk.paths.root.rglob("*evil*"))


def test_a_repository_without_its_files_is_told(hub: Hub, desk: Desk, lane: SilentLane) -> None:
    del hub.files["selected_tags.csv"]
    with pytest.raises(NotFound, match=r"selected_tags\.csv"):
        fetch(desk, lane)
    hub.files = {"selected_tags.csv": b"", "config.json": b"{}"}
    with pytest.raises(NotFound, match="weights"):
        fetch(desk, lane)


def test_older_weights_are_taken_where_there_are_no_newer(hub: Hub, desk: Desk, lane: SilentLane) -> None:
    hub.files["pytorch_model.bin"] = hub.files.pop("model.safetensors")
    fetch(desk, lane)
    assert (final(desk) / "pytorch_model.bin").is_file()


def test_too_little_room_is_told_before_anything_is_fetched(hub: Hub, desk: Desk, lane: SilentLane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: type("Room", (), {"free": 1000})())
    with pytest.raises(OutOfSpace, match="MB free"):
        fetch(desk, lane)
    assert not [path for _, path, _ in hub.asked if path.startswith("/cdn")]


def test_a_full_disk_is_told_in_words(hub: Hub, desk: Desk, lane: SilentLane, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub_module, "_receive", full)
    with pytest.raises(OutOfSpace, match="is full"):
        fetch(desk, lane)


def test_two_fetches_of_one_captioner_do_not_mix(hub: Hub, desk: Desk, lane: SilentLane) -> None:
    from filelock import FileLock

    with FileLock(desk.paths.outputs / f"fetching-{OFFER.name}.lock"), pytest.raises(Conflict, match="already"):
        fetch(desk, lane)


def deepbooru(hub: Hub, monkeypatch: pytest.MonkeyPatch, data: bytes) -> str:
    """The offer without a repository, answered by this machine; returns its label."""
    hub.files["model-resnet_custom_v3.pt"] = data
    offer = next(offer for offer in CATALOGUE_OF_MODELS if offer.address)
    offers = tuple(replace(offer, address=f"{hub.address}/cdn/{offer.name}", size_mb=0) if other is offer else other for other in CATALOGUE_OF_MODELS)
    monkeypatch.setattr(download, "CATALOGUE_OF_MODELS", offers)
    return offer.label


def test_a_single_file_comes_from_its_address(hub: Hub, desk: Desk, lane: SilentLane, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.save({"a": torch.from_numpy(np.random.default_rng(0).standard_normal(9000)), "tags": ["hat"]}, tmp_path / "x.pt")
    data = (tmp_path / "x.pt").read_bytes()
    label = deepbooru(hub, monkeypatch, data)
    hub.cut_after["model-resnet_custom_v3.pt"] = [6000]
    result = fetch(desk, lane, label)
    assert Path(result["path"]) == desk.paths.deepbooru / "model-resnet_custom_v3.pt"
    assert Path(result["path"]).read_bytes() == data
    assert hub.ranges_of("model-resnet_custom_v3.pt") == ["", "bytes=6000-"]
    assert sorted(p.name for p in desk.paths.deepbooru.iterdir()) == ["model-resnet_custom_v3.pt"]


def test_a_page_that_says_sorry_is_not_taken_for_a_model(hub: Hub, desk: Desk, lane: SilentLane, monkeypatch: pytest.MonkeyPatch) -> None:
    label = deepbooru(hub, monkeypatch, b"<html>sorry</html>")
    with pytest.raises(StudioError, match="arrived damaged"):
        fetch(desk, lane, label)
    assert not (desk.paths.deepbooru / "model-resnet_custom_v3.pt").exists()


def test_a_captioner_that_nobody_offers_is_refused() -> None:
    with pytest.raises(InputError, match="Captioner"):
        DownloadRequest.check({"captioner": "oracle"})


def test_every_offer_has_a_name_a_place_and_one_source() -> None:
    assert len({offer.label for offer in CATALOGUE_OF_MODELS}) == len({(offer.kind, offer.name) for offer in CATALOGUE_OF_MODELS}) == len(CATALOGUE_OF_MODELS)
    for offer in CATALOGUE_OF_MODELS:
        assert offer.kind in FOLDERS
        assert bool(offer.repository) != bool(offer.address)
        assert offer.size_mb > 0
        assert captioner_shelf.FOLDERS[offer.kind]
