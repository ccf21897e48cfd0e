"""Products are in whole float32 wherever a model is used, and rounded only where that is said."""
import pytest
import tensorflow as tf

import tfrec.models.bert.bert
import tfrec.models.two_tower  # noqa: F401
from tfrec.models.bert.precision import tensor_float_32

is_rounded = tf.config.experimental.tensor_float_32_execution_enabled


def test_it_is_off_from_the_import_on_and_again_after_an_error():
    assert not is_rounded()
    with tensor_float_32():
        assert is_rounded()
    with pytest.raises(ValueError, match="stop"), tensor_float_32():
        raise ValueError("stop")
    assert not is_rounded()
