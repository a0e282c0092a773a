"""The short version of the kill test of bulk edits."""

from tests.faults.undo import ACTS, faults


def test_killed_steps_are_whole_or_rolled_back() -> None:
    kills = faults(6, 120, seed=1)
    assert [(kill.act, kill.wrong) for kill in kills] == [(act, "") for act in (*ACTS, *ACTS)]
    assert {kill.outcome for kill in kills} <= {"completed", "rolled back", "was done"}
