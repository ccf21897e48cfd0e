"""Which devices are chosen on a machine that has a CPU only, and when steps are compiled."""
import pytest
import tensorflow as tf

from tfrec.training.devices import choose_strategy, compiles, describe


@pytest.fixture(autouse=True)
def no_accelerator(monkeypatch):
    for name in ("TPU_NAME", "COLAB_TPU_ADDR"):
        monkeypatch.delenv(name, raising=False)


def accelerators(monkeypatch, **present: int) -> None:
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [f"{kind}:{n}" for n in range(present.get(kind, 0))])


def test_a_cpu_is_used_as_it_is():
    assert choose_strategy() is tf.distribute.get_strategy()
    assert describe(choose_strategy()) == "CPU"


def test_one_gpu_is_one_device(monkeypatch):
    accelerators(monkeypatch, GPU=1)
    strategy = choose_strategy()
    assert isinstance(strategy, tf.distribute.OneDeviceStrategy)
    assert describe(strategy) == "GPU"


@pytest.mark.parametrize(("present", "expected"), [({}, False), ({"GPU": 1}, True), ({"TPU": 8}, True)])
def test_steps_are_compiled_on_accelerators_unless_told_otherwise(monkeypatch, present, expected):
    accelerators(monkeypatch, **present)
    assert compiles(None) is expected
    assert compiles(True) is True
    assert compiles(False) is False
