"""The soak with a few faults: `python -m tests.faults.soak --minutes 120` is the whole one."""

import sys

import pytest

from tests.faults.soak import Plan, printed, soak


@pytest.mark.skipif(sys.platform == "win32", reason="its faults are signals")
def test_the_studio_recovers_from_a_lock_a_destroyed_database_a_damaged_checkpoint_and_a_dead_worker() -> None:
    report = soak(Plan(faults=("lock", "garbage", "checkpoint"), every=0, hold=(6, 6), steps=20))
    assert report.wrong == [], printed(report)
    assert [seconds >= 0 for _, seconds in report.faults] == [True] * 3
    assert report.ended["generate done"] >= 3 and report.ended["train done"] + report.ended["train stopped"] >= 1
