"""The journal: what was changed while a run went on is done again at its steps."""

from pathlib import Path

import pytest

from studio.errors import InputError
from studio.requests.train import TextualInversionConfig
from studio.training.course import Course
from studio.training.journal import Journal


@pytest.fixture
def base() -> Course:
    """A run of 100 steps from step 10 on."""
    return Course(TextualInversionConfig(embedding="gnarl", data="pictures", learn_rate="0.01:50, 0.001", steps=100), 10)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """An empty journal."""
    return Journal.open(tmp_path / "journal.jsonl")


def test_a_course_knows_rates_and_end(base: Course) -> None:
    assert base.end == 100
    assert [base.rate(step) for step in (10, 49, 50)] == [0.01, 0.01, 0.001]


def test_changes_count_from_their_step_on_and_come_back_from_the_disk(base: Course, journal: Journal) -> None:
    journal.write(20, "change", {"learn_rate": "0.5"})
    journal.write(30, "change", {"steps": 40, "preview_every": 7})
    again = Journal.open(journal.path)
    assert [again.course(base, step).rate(step) for step in (19, 20)] == [0.01, 0.5]
    assert [again.course(base, step).end for step in (29, 30)] == [100, 40]
    assert again.course(base).config.preview_every == 7
    assert (again.upto(20), again.newest, again.at(20), again.at(21)) == (1, 30, True, False)


@pytest.mark.parametrize("data", [{"batch_size": 4}, {"steps": 20}, {"learn_rate": "fast"}, {"steps": "many"}, {"learn_rate": "0.1:15"}])
def test_what_cannot_be_changed_is_told(base: Course, data: dict[str, object]) -> None:
    with pytest.raises(InputError):
        base.changed(data, 20)


def test_a_line_that_a_kill_cut_short_was_never_taken_and_hurts_nothing_after_it(base: Course, journal: Journal) -> None:
    journal.write(20, "change", {"learn_rate": "0.5"})
    with journal.path.open("a") as file:
        file.write('{"step": 21, "ask": "cha')
    Journal.open(journal.path).write(25, "change", {"learn_rate": "0.25"})
    again = Journal.open(journal.path)
    assert [entry["step"] for entry in again.entries] == [20, 25]
    assert again.course(base).rate(30) == 0.25


def test_a_run_that_was_paused_rests_until_it_is_resumed(journal: Journal) -> None:
    assert journal.resting is None
    journal.write(5, "pause")
    assert Journal.open(journal.path).resting["ask"] == "pause"
    journal.write(5, "change", {"preview_every": 2})
    assert journal.resting is not None
    journal.write(5, "resume")
    assert Journal.open(journal.path).resting is None


def test_rolling_back_undoes_the_rates_chosen_since_and_takes_a_part_of_the_rate(base: Course, journal: Journal) -> None:
    journal.write(20, "change", {"learn_rate": "0.5"})
    journal.write(30, "change", {"learn_rate": "900", "preview_every": 3})
    journal.write(33, "alarm", {"reason": "it exploded"})
    journal.roll_back(25, 33, 0.1)
    again = Journal.open(journal.path)
    course = again.course(base, 25)
    assert course.rate(40) == pytest.approx(0.05)
    assert course.config.preview_every == 3
    assert again.resting is None
    again.roll_back(25, 60, 0.1)
    assert again.course(base).rate(40) == pytest.approx(0.005)


def test_a_rate_that_is_written_means_what_it_says(base: Course, journal: Journal) -> None:
    journal.roll_back(20, 22, 0.1)
    assert journal.course(base).rate(30, halvings=1) == pytest.approx(0.0005)
    journal.write(31, "change", {"learn_rate": "0.2"}, halvings=1)
    course = Journal.open(journal.path).course(base)
    assert [course.rate(40, halvings) for halvings in (1, 2)] == [0.2, 0.1]
