"""The Embedding tab's room without a browser: what it shows of real figures, which buttons are off and why, and what its presses do."""

from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch

from studio import embedding_shelf as shelf
from studio.diffusion.cache import ModelCache
from studio.engine import Engine
from studio.formats.embedding import Embedding, read_embedding, write_embedding
from studio.jobs import JobStore, SilentLane, State
from studio.requests import request_of
from studio.services.desk import Desk
from studio.services.embedding_room import run
from studio.settings import Paths
from studio.ui.live import Follower
from studio.ui.tabs import embedding, embedding_room
from studio.ui.tabs.embedding_room import BUTTONS, INPUTS
from studio.ui.widgets import Page

BROWSER = "b" * 20
REQUEST = gr.Request(cookies={"studio_browser": BROWSER}, session_hash="s")
EMPTY: dict[str, Any] = {"chosen": None, "to": "", "replace": False, "keep": "", "others": [], "how": "join", "weights": "", "layout": "safetensors", "on_shelf": True, "trash": None}


class Tab:
    """The tab over an engine whose jobs are done here, one after another."""

    def __init__(self, root: Paths, cache: ModelCache) -> None:
        self.engine, self.cache, self.form = Engine(root), cache, dict(EMPTY)
        with gr.Blocks() as blocks:
            self.page = Page(self.engine, Follower(self.engine), blocks, gr.Dropdown([""]), gr.Dropdown([]), gr.Number(1), gr.Tabs())
            embedding.build(self.page)

    def work(self) -> None:
        """Do what waits."""
        store = JobStore(self.engine.paths.database)
        while (job := store.claim("here", ("inspect_embedding", "edit_embedding"))) is not None:
            store.finish(job.id, State.DONE, run(request_of(job.kind, job.request), SilentLane(), Desk(self.engine.paths, self.cache)))

    def drawn(self, lang: str = "en", said: str = "", **form: Any) -> dict[str, Any]:
        """What the room shows."""
        self.form |= form
        screen = next(screen for screen in self.page.screens if len(screen.inputs) == len(INPUTS) + 1)
        chosen, look, others, trash, *rest = screen.draw(lang, BROWSER, *self.form.values(), said)
        on = [name for name, update in zip(BUTTONS, rest, strict=False) if update["interactive"]]
        return {"chosen": chosen, "look": look, "others": others, "trash": trash, "on": on, "reason": rest[-2], "status": rest[-1]}

    def edit(self, act: str, **form: Any) -> str:
        """A press that the worker answers; why it was refused."""
        self.form |= form
        refused = embedding_room._act(self.page, act)(REQUEST, *self.form.values())
        self.work()
        return refused


@pytest.fixture
def tab(root: Paths, tiny_cache: ModelCache) -> Tab:
    write_embedding(root.embeddings / "hero <b>.pt", Embedding("hero", torch.arange(3 * 128.0).reshape(3, 128) / 300, 9))
    write_embedding(root.embeddings / "duke.pt", Embedding("duke", torch.ones(3, 128), 9))
    return Tab(root, tiny_cache)


def test_every_button_that_is_off_says_why(tab: Tab, root: Paths) -> None:
    nothing = tab.drawn()
    assert (nothing["on"], "Choose an embedding." in nothing["reason"], "The trash is empty." in nothing["reason"]) == ([], True, True)
    assert tab.drawn(chosen="duke")["on"] == ["delete"]
    assert "Type a new name" in tab.drawn()["reason"]
    assert tab.drawn(to="x", keep="1", others=["hero <b>"])["on"] == ["rename", "duplicate", "delete", "prune", "convert", "merge"]
    assert "files cannot lie on the shelf" in tab.drawn(layout="diffusers")["reason"]
    assert "convert" in tab.drawn(on_shelf=False)["on"]
    JobStore(root.database).submit("train", {"config": {"embedding": "duke"}})
    busy = tab.drawn()
    assert ("A training uses it." in busy["reason"], "rename" in busy["on"], "delete" in busy["on"]) == (True, False, False)
    assert "有训练正在使用它" in tab.drawn("zh")["reason"]


def test_the_room_shows_the_figures_of_the_chosen_embedding_and_knows_when_they_are_old(tab: Tab, root: Paths) -> None:
    name = "hero <b>"
    assert embedding_room._asker(tab.page)(name, "", REQUEST) == gr.skip()
    assert "Looking into it" in tab.drawn(chosen=name)["look"]
    tab.work()
    shown = tab.drawn()["look"]
    assert "It can be used with" in shown and shown.count("× a word") == 3 and 'id="embedding_likeness"' in shown
    assert "<b>" not in shown.replace("&lt;b&gt;", "")
    assert "look again" not in shown
    path = root.embeddings / f"{name}.pt"
    write_embedding(path, Embedding(name, torch.ones(1, 128)))
    assert "look again" in tab.drawn()["look"]


def test_presses_make_what_they_say(tab: Tab, root: Paths) -> None:
    assert tab.edit("prune", chosen="duke", keep="3, 1", replace=True) == ""
    told = tab.drawn()
    assert "duke is made, with 2 vectors" in told["status"] and "lies in the trash" in told["status"]
    assert tab.edit("merge", others=["hero <b>"], to="both", replace=False) == ""
    assert len(read_embedding(root.embeddings / "both.pt").vectors) == 5
    assert tab.edit("convert", to="", layout="png", on_shelf=False) == ""
    link = tab.drawn()["status"]
    assert "exported?path=" in link and "Download duke.png" in link
    assert "Keep: it is not a list of numbers" in tab.edit("prune", keep="one", to="x")
    text, chosen = embedding_room._filed(tab.page, "rename", {**EMPTY, "chosen": "both", "to": "all"}, "en")
    assert "both is called all now" in text and chosen["value"] == "all"
    embedding_room._filed(tab.page, "delete", {**EMPTY, "chosen": "all"}, "en")
    newest = tab.drawn()["trash"]["value"]
    embedding_room._filed(tab.page, "restore", {**EMPTY, "trash": newest}, "zh")
    assert Path(shelf.file_of(root, "all")).exists()


def test_the_shelf_says_what_each_file_is_for_or_why_it_is_none(tab: Tab, root: Paths) -> None:
    torch.save({"string_to_param": {"*": torch.full((1, 8), float("nan"))}}, root.embeddings / "spoilt.pt")
    tab.engine.store.put_cards({str(root.embeddings / "duke.pt"): {"vectors": 3, "width": 768, "step": 9}, str(root.embeddings / "spoilt.pt"): {"problem": "spoilt.pt is spoilt: NaN."}})
    table = next(screen for screen in tab.page.screens if len(screen.inputs) == 1).draw("en", BROWSER, "")[1]
    assert "SD 1.x" in table and "spoilt.pt is spoilt: NaN." in table and "hero &lt;b&gt;" in table
    assert "This file cannot be used." in tab.drawn(chosen="spoilt", to="x", keep="1", others=["duke"])["reason"]
