"""First choices of pictures that are new in a data set; no step of the journal, as taking pictures in is none."""

import json
from collections.abc import Mapping

from studio.projects.facts import Choices
from studio.projects.project import Project
from studio.projects.sidecar import key


def put_repeats(project: Project, repeats: Mapping[str, int]) -> None:
    """Keep how often each new picture is shown in an epoch."""
    rows = [(key(name), json.dumps(Choices(repeats=count).as_json())) for name, count in repeats.items()]
    with project.sidecar.connect(write=True) as db:
        db.executemany("INSERT OR REPLACE INTO choices (item, choices, revision) VALUES (?, ?, (SELECT revision + 1 FROM counter))", rows)
