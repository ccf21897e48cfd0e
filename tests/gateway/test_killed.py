"""kill -9 under load: nothing acknowledged is lost, nothing is in the log twice. The last gateway is told to end, and does."""
from typing import Any

import pytest

from tests.gateway.kills import kill_again_and_again


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return kill_again_and_again(tmp_path_factory.mktemp("run"), kills=3, seed=1)


def test_killed_at_any_moment_it_loses_nothing_acknowledged_and_repeats_nothing(found: dict[str, Any]) -> None:
    assert (found["lost"], found["repeated_in_log"], found["unknown_in_log"]) == (0, 0, 0)
    assert found["acknowledged"] > 100
    assert found["calls_without_answer"] > 0


def test_the_process_ends_gently_and_leaves_everything_in_the_log(found: dict[str, Any]) -> None:
    """Nobody starts after it, and its log is read: what it had not moved there would be lost."""
    assert found["exit_code"] == 0
    assert found["acknowledged_by_the_last"] > 0
    assert found["lost"] == 0
