"""Repeats of images that another part of the studio put into a data set; no step of the journal, as adding images is none."""

import json
from collections.abc import Mapping
from dataclasses import replace

from studio.projects.facts import Choices
from studio.projects.project import Project
from studio.projects.sidecar import key


def put_repeats(project: Project, repeats: Mapping[str, int]) -> None:
    """Keep how often each image counts in an epoch; what else was decided about it stays."""
    with project.sidecar.connect() as db:
        before = {row["item"]: Choices.from_json(json.loads(row["choices"])) for row in db.execute("SELECT item, choices FROM choices")}
    after = {key(name): replace(before.get(key(name), Choices()), repeats=count) for name, count in repeats.items()}
    rows = [(item, json.dumps(choices.as_json())) for item, choices in after.items() if choices != before.get(item, Choices())]
    if not rows:
        return
    with project.sidecar.connect(write=True) as db:
        db.executemany("INSERT OR REPLACE INTO choices (item, choices, revision) VALUES (?, ?, (SELECT revision + 1 FROM counter))", rows)
