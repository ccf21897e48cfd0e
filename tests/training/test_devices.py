"""Which devices are chosen, what is said where one is missing, and when steps are compiled."""
import logging
from types import SimpleNamespace

import pytest
import tensorflow as tf

from tfrec.errors import TfrecError
from tfrec.training import devices
from tfrec.training.devices import choose_strategy, compiles, describe

RESOLVER = "TPUClusterResolver"


@pytest.fixture(autouse=True)
def no_accelerator(monkeypatch):
    monkeypatch.delenv("TPU_NAME", raising=False)
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)


def accelerators(monkeypatch, **present: int) -> None:
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [f"{kind}:{n}" for n in range(present.get(kind, 0))])


def broken_tpu(monkeypatch) -> list[str]:
    """libtpu is installed and TensorFlow fails to drive it; the names that are asked for."""
    asked = []

    def connect(tpu):
        asked.append(tpu)
        raise tf.errors.NotFoundError(None, None, "No TPU devices found\nand a trace of many lines")

    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(getattr(tf.distribute.cluster_resolver, RESOLVER), "connect", connect)
    return asked


@pytest.mark.parametrize("wanted", ["auto", "cpu"])
def test_a_cpu_is_used_as_it_is(wanted):
    assert choose_strategy(wanted) is tf.distribute.get_strategy()
    assert describe(choose_strategy(wanted)) == "CPU"


@pytest.mark.parametrize("has_mallopt", [True, False])
def test_memory_that_is_freed_on_a_cpu_stays_for_the_next_step(monkeypatch, has_mallopt):
    """What it saves depends on the heap of the process, so it is the settings that are held: M_MMAP_MAX, M_TRIM_THRESHOLD."""
    told = []
    library = SimpleNamespace(**{"mallopt": lambda *setting: told.append(setting)} if has_mallopt else {})
    monkeypatch.setattr(devices.sys, "platform", "linux")
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda name: library)
    choose_strategy("cpu")
    assert told == ([(-4, 0), (-1, 2**30)] if has_mallopt else [])


@pytest.mark.parametrize("wanted", ["auto", "gpu"])
def test_one_gpu_is_one_device(monkeypatch, wanted):
    accelerators(monkeypatch, GPU=1)
    strategy = choose_strategy(wanted)
    assert isinstance(strategy, tf.distribute.OneDeviceStrategy)
    assert describe(strategy) == "GPU"


def test_a_gpu_that_is_wanted_and_missing_is_an_error():
    with pytest.raises(TfrecError, match=r"training\.device is gpu, but TensorFlow finds no GPU.*tensorflow\[and-cuda\]"):
        choose_strategy("gpu")


def test_a_tpu_that_cannot_be_used_is_an_error_where_it_is_wanted(monkeypatch):
    asked = broken_tpu(monkeypatch)
    with pytest.raises(TfrecError, match=r"tensorflow-tpu ends at version 2\.20.*NotFoundError: No TPU devices found$"):
        choose_strategy("tpu")
    assert asked == ["local"]


def test_without_a_wish_an_unusable_tpu_is_passed_over_with_a_word(monkeypatch, caplog):
    broken_tpu(monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert choose_strategy() is tf.distribute.get_strategy()
    assert "tensorflow-tpu ends at version 2.20" in caplog.text


def test_a_tpu_is_not_asked_for_where_its_library_is_missing(monkeypatch):
    asked = broken_tpu(monkeypatch)
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    choose_strategy()
    assert asked == []


@pytest.mark.parametrize(("present", "encoders", "towers"), [({}, False, False), ({"GPU": 1}, True, False),
                                                              ({"TPU": 8}, True, True)])
def test_steps_are_compiled_where_it_pays_unless_told_otherwise(monkeypatch, present, encoders, towers):
    accelerators(monkeypatch, **present)
    for on_gpu, expected in ((True, encoders), (False, towers)):
        assert compiles(None, on_gpu=on_gpu) is expected
        assert compiles(True, on_gpu=on_gpu) is True
        assert compiles(False, on_gpu=on_gpu) is False
