"""The log of the tests of the join."""
import pytest

from tests.data.labels.world import World


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "log")
