"""The crew gives every task one answer, whatever happens to its processes, and leaves none behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from studio.dataset.crew import AHEAD, Crew, Lost, cores, crew, in_order
from studio.errors import StudioError, Unreadable

ROOT = Path(__file__).resolve().parent.parent.parent


def double(number: int) -> int:
    """A task that cannot fail."""
    return number * 2


def surroundings(number: int) -> dict[str, object]:
    """What the process of a task looks like from inside."""
    import cv2

    return {"pid": os.getpid(), "torch": "torch" in sys.modules, "threads": cv2.getNumThreads(), "omp": os.environ.get("OMP_NUM_THREADS")}


def fatal_at_three(number: int) -> int:
    """A decoder that takes its process down at one picture."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGSEGV if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    return number


def picky(number: int) -> int:
    """Fails in the ways functions fail."""
    if number == 1:
        raise Unreadable("one.png is damaged.", "Get it again.")
    if number == 2:
        raise ZeroDivisionError("by two")
    return number


def chatty(number: int) -> int:
    """Prints where messages travel."""
    os.write(1, b"noise\n")
    print(number)  # noqa: T201
    return number


def slow(seconds: float) -> float:
    """Takes its time."""
    time.sleep(seconds)
    return seconds


@pytest.fixture(scope="module")
def two() -> Iterator[Crew]:
    """Two processes, shared by tests that leave them alive."""
    with Crew(2) as crew:
        yield crew


def test_every_task_is_answered_once_under_its_index(two: Crew) -> None:
    assert dict(two.run(double, range(100))) == {n: 2 * n for n in range(100)}


def test_the_processes_are_others_without_torch_and_with_one_thread_each(two: Crew) -> None:
    found = [result for _, result in two.run(surroundings, range(12))]
    assert {f["torch"] for f in found if isinstance(f, dict)} == {False}
    assert {(f["threads"], f["omp"]) for f in found if isinstance(f, dict)} == {(1, "1")}
    assert os.getpid() not in {f["pid"] for f in found if isinstance(f, dict)}


def test_a_task_that_fails_is_told_in_words_and_the_rest_goes_on(two: Crew) -> None:
    found = dict(two.run(picky, range(5)))
    assert [found[n] for n in (0, 3, 4)] == [0, 3, 4]
    assert isinstance(found[1], Unreadable)
    assert (str(found[1]), found[1].code) == ("one.png is damaged. Get it again.", "unreadable")
    assert isinstance(found[2], Lost)
    assert "ZeroDivisionError: by two" in str(found[2])


def test_a_process_that_dies_is_the_problem_of_its_task_alone() -> None:
    with Crew(2) as mates:
        found = dict(mates.run(fatal_at_three, range(9)))
    assert [found[n] for n in range(9) if n != 3] == [0, 1, 2, 4, 5, 6, 7, 8]
    assert isinstance(found[3], Lost)
    assert "died (signal" in str(found[3])


def test_a_process_killed_between_two_runs_is_replaced(two: Crew) -> None:
    pids = {f["pid"] for _, f in two.run(surroundings, range(6)) if isinstance(f, dict)}
    for pid in pids:
        psutil.Process(pid).kill()
    psutil.wait_procs([p for p in psutil.Process().children() if p.pid in pids], timeout=5)
    assert dict(two.run(double, range(4))) == {0: 0, 1: 2, 2: 4, 3: 6}


def test_a_task_that_never_ends_is_given_up() -> None:
    with Crew(2, patience=0.05) as mates:
        found = dict(mates.run(slow, [60.0, 0.0]))
    assert isinstance(found[0], Lost)
    assert "took too long" in str(found[0])


def test_what_a_library_prints_does_not_get_between(two: Crew) -> None:
    assert dict(two.run(chatty, range(4))) == {0: 0, 1: 1, 2: 2, 3: 3}


def test_tasks_are_asked_for_only_as_there_is_room(two: Crew) -> None:
    asked = 0

    def tasks() -> Iterator[int]:
        nonlocal asked
        for number in range(1000):
            asked += 1
            yield number

    seen = 0
    for _ in two.run(double, tasks()):
        seen += 1
        assert asked - seen <= AHEAD * two.count
    assert seen == 1000


@pytest.mark.parametrize(("count", "tasks"), [(1, 5), (4, 1)])
def test_one_core_or_one_task_is_worked_on_here(count: int, tasks: int) -> None:
    with Crew(count) as mates:
        assert {f["pid"] for _, f in mates.run(surroundings, range(tasks)) if isinstance(f, dict)} == {os.getpid()}
        assert isinstance(dict(mates.run(picky, [1]))[0], Unreadable)


def test_no_tasks_are_no_work() -> None:
    with Crew(2) as mates:
        assert list(mates.run(double, [])) == []


def test_stop_leaves_at_once_in_the_middle_of_a_task() -> None:
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    with Crew(2) as mates:
        run = mates.run(slow, [0.0, 300.0, 300.0, 300.0, 300.0])
        assert next(run) == (0, 0.0)
    assert {p.pid for p in psutil.Process().children(recursive=True)} <= before
    assert all(isinstance(result, StudioError) for _, result in run)


def test_a_run_that_is_left_does_not_disturb_the_next(two: Crew) -> None:
    for _ in two.run(double, range(50)):
        break
    assert dict(two.run(double, range(3))) == {0: 0, 1: 2, 2: 4}


def test_results_can_be_had_in_order() -> None:
    assert list(in_order([(2, "c"), (0, "a"), (1, "b"), (3, "d")])) == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]


def test_all_cores_when_nothing_is_said() -> None:
    with crew() as mates:
        assert mates.count == cores() >= 1


PARENT = """
import sys, threading
from studio.dataset.crew import Crew
from tests.dataset.test_crew import slow, surroundings
mates = Crew(2)
print(*{f["pid"] for _, f in mates.run(surroundings, range(20))}, flush=True)
for _ in mates.run(slow, [300.0, 300.0]):
    pass
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_processes_end_when_their_parent_is_killed_in_the_middle_of_their_tasks() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    assert children
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []


def test_a_program_whose_main_module_cannot_be_imported_can_use_it() -> None:
    code = "from studio.dataset.crew import Crew\nfrom tests.dataset.test_crew import double\nwith Crew(2) as c: print(sorted(c.run(double, [1, 2, 3])))"
    done = subprocess.run([sys.executable, "-"], input=code, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "[(0, 2), (1, 4), (2, 6)]", done.stderr
