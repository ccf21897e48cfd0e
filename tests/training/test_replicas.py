"""Two replicas learn what one device learns: the loss of a batch and the weights after an epoch are the same."""
import json
import os
import sys
from pathlib import Path

from numpy.testing import assert_allclose

ROOT = Path(__file__).parent.parent.parent


def test_two_replicas_equal_one_device(forks):
    negatives = 8  # of 40 items: drawn, the same for both replicas
    found = forks.run(
        [sys.executable, str(Path(__file__).with_name("replicas.py")), str(negatives)],
        timeout=300, env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert found.returncode == 0, found.stderr[-3000:]
    told = json.loads(found.stdout.splitlines()[-1])
    assert told["one"]["steps"] == told["two"]["steps"]
    assert_allclose(told["two"]["loss"], told["one"]["loss"], rtol=1e-5)
    assert_allclose(told["two"]["weights"], told["one"]["weights"], rtol=1e-3, atol=1e-3)
    assert_allclose(told["two"]["scores"], told["one"]["scores"], rtol=1e-3, atol=1e-3)
    one, two = told["slates"]
    assert one["steps"] == two["steps"] == [3]
    assert_allclose(two["weights"], one["weights"], rtol=1e-4)
