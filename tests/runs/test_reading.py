"""A run's folder is read while it grows, whatever version wrote it and however it was hurt."""

import json
from pathlib import Path

from studio.jobs import Job, State
from studio.runs.listing import listing
from studio.runs.reading import job_of, view
from studio.runs.smoothing import smoothed
from studio.runs.tails import MOST, Line
from tests.runs.folders import full, lines, old


def job(state: State, name: str = "abc", **request: str) -> Job:
    return Job(name, "train", request, state, 1.0, 2.0, None, None, None, 1, None)


def test_a_run_of_an_earlier_version_reads(tmp_path: Path) -> None:
    seen = view(old(tmp_path / "2026-01-02-hero-abc"), None, {})
    assert (seen["state"], seen["step"], seen["end"], seen["embedding"], seen["name"]) == ("interrupted", 40, 100, "hero", "hero")
    assert seen["curve"][0] == [1, 1.0, 2.0]
    assert [(p["step"], p["path"], p["prompt"], p["weights"]) for p in seen["previews"]] == [(0, "samples/000000.png", "a hero", None), (20, "samples/000020.png", "a hero", "embeddings/hero-20.pt")]
    assert seen["probe"] == [] and seen["verdict"] is None and seen["best"] is None
    json.dumps(seen, allow_nan=False)


def test_only_what_is_new_is_read_and_a_file_that_is_cut_back_is_read_anew(tmp_path: Path) -> None:
    folder, cache = full(tmp_path / "run"), {}
    assert [p[0] for p in view(folder, None, cache)["probe"]] == [0, 20, 40]
    with (folder / "curve.csv").open("a") as curve:
        curve.write("41,0.5,0.6,0.005,0.4,0.01\n42,0.4")
    assert view(folder, None, cache)["step"] == 41, "half a line waits for its end"
    with (folder / "curve.csv").open("a") as curve:
        curve.write(",0.6,0.005,0.4,0.01\n")
    assert view(folder, None, cache)["metric"]["loss"] == 0.4
    text = (folder / "curve.csv").read_text()
    (folder / "curve.csv.new").write_text("\n".join(text.splitlines()[:11]) + "\n")
    (folder / "curve.csv.new").replace(folder / "curve.csv")
    (folder / "verdicts.jsonl").write_text("")
    seen = view(folder, None, cache)
    assert seen["step"] == 10 and len(seen["curve"]) == 10 and seen["verdict"] is None


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    folder = full(tmp_path / "run")
    lines(folder / "curve.csv", "half", "41,x,,,,", "42,nan,0.3,0.005,0.4,0.01")
    lines(folder / "verdicts.jsonl", "{", "[1]", {"state": "plateau", "text": "Plateaued.", "values": {}, "step": 42})
    lines(folder / "previews.jsonl", "\x00\x00\x00")
    (folder / "result.json").write_text("{")
    seen = view(folder, None, {})
    assert (seen["step"], seen["metric"]["loss"], seen["verdict"]["state"], len(seen["previews"]), seen["state"]) == (42, None, "plateau", 2, "interrupted")
    assert view(tmp_path / "nothing", None, {})["curve"] == []


def test_a_long_line_keeps_its_spikes_and_its_newest_point() -> None:
    line = Line()
    for step in range(20_000):
        line.add([step, 99.0 if step == 12_345 else -99.0 if step == 77 else (step * 7919 % 1000) / 1000, None])
        assert len(line.points()) <= MOST + 1 if step % 997 == 0 else True
    points = line.points()
    assert [p[0] for p in points] == sorted({p[0] for p in points})
    assert {(12_345, 99.0), (77, -99.0)} <= {(p[0], p[1]) for p in points} and points[-1][0] == 19_999
    assert 200 < len(points) <= MOST + 1


def test_a_living_job_says_the_state_and_the_speed(tmp_path: Path) -> None:
    folder = full(tmp_path / "2026-01-02-hero-abc")
    lines(folder / "journal.jsonl", {"step": 10, "ask": "change", "data": {"steps": 300}})
    seen = view(folder, job(State.RUNNING, "other", run=folder.name), {}, {"rate": 4.0, "eta": 9.0, "total": 300})
    assert (seen["state"], seen["speed"], seen["eta"], seen["end"]) == ("running", 4.0, 9.0, 300)
    over = view(folder, job(State.FAILED), {}, {"rate": 4.0})
    assert (over["state"], over["speed"], over["end"]) == ("done", None, 300)
    jobs = [job(State.DONE, "z", run="another"), job(State.DONE, "y", run=folder.name), job(State.DONE)]
    assert job_of(folder.name, jobs).id == "y" and job_of("x-abc", jobs).id == "abc" and job_of("x", jobs) is None


def test_the_table_is_light_newest_first_and_read_again_only_when_something_changed(tmp_path: Path) -> None:
    old(tmp_path / "2026-01-01-hero-a")
    folder, cache = full(tmp_path / "2026-01-02-hero-b", learn_rate="0.001"), {}
    (folder / "config.json").write_text((folder / "config.json").read_text().replace("2026-01-02T", "2026-02-02T"))
    first = listing(tmp_path, (), cache)
    assert [(r["id"], r["state"], r["step"], (r["verdict"] or {}).get("state"), r["thumbnail"]["path"]) for r in first] == [
        ("2026-01-02-hero-b", "done", 40, "improving", "samples/000020-0.png"),
        ("2026-01-01-hero-a", "interrupted", 40, None, "samples/000020.png"),
    ]
    assert first[0]["digest"] != first[1]["digest"] and first[0]["settings"]["learn_rate"] == "0.001"
    lines(folder / "curve.csv", "41,0.5,0.6,0.005,0.4,0.01")
    second = listing(tmp_path, (), cache)
    assert second[0]["step"] == 41 and second[1] is first[1]


def test_what_an_earlier_version_said_is_said_anew_from_the_curve(tmp_path: Path) -> None:
    folder = old(tmp_path / "2026-01-02-hero-abc", steps=40)
    lines(
        folder / "probe.csv",
        "step,train,low,high,held,composition,shape,detail,drift",
        *(f"{5 * i},{v},{v - 1},{v + 1},,,,," for i, v in enumerate((0, -12, -20, -19.7, -20.6, -20.1, -20, -19.9, -19.8))),
    )
    lines(
        folder / "verdicts.jsonl",
        {"step": 40, "kind": "flat", "text": "Flat since step {since}: {gain} % better than at the start, and no longer changing.", "values": {"since": 10, "gain": 19.8}, "since": 10},
    )
    (folder / "result.json").write_text(json.dumps({"state": "done", "steps": 40}))
    (folder / "embeddings/hero-best.pt").write_bytes(b"the best")
    (folder / "best.json").write_text(json.dumps({"step": 20, "value": -20.6, "path": "embeddings/hero-best.pt"}))
    for found in (view(folder, None, {})["verdict"], listing(tmp_path)[0]["verdict"]):
        assert (found["state"], found["best_step"], found["ended"], found["learning_rate"]) == ("plateau", 20, True, 0.005)
        assert found["sentence"] == "Plateaued since step 15. Use step 20 (best)."


def test_the_curve_comes_with_the_smoothed_line_that_the_diagnosis_speaks_of(tmp_path: Path) -> None:
    folder = old(tmp_path / "run")
    values = (0.0, -10.0, -20.0, -18.0)
    lines(folder / "probe.csv", "step,train,low,high,held,composition,shape,detail,drift", *(f"{5 * i},{2 * v},{v},{v},{v},,,," for i, v in enumerate(values)))
    rows = view(folder, None, {})["probe"]
    assert [row[9:] for row in rows] == [[2 * v, v] for v in smoothed(values)]
