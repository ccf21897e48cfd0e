"""kill -9 under load: nothing acknowledged is lost, nothing is in the log twice."""
from pathlib import Path

from tests.serving.gateway_kills import kill_again_and_again


def test_killed_at_any_moment_it_loses_nothing_acknowledged_and_repeats_nothing(tmp_path: Path) -> None:
    found = kill_again_and_again(tmp_path, kills=3, seed=1)
    assert (found["lost"], found["repeated_in_log"], found["unknown_in_log"]) == (0, 0, 0)
    assert found["acknowledged"] > 100
    assert found["calls_without_answer"] > 0
