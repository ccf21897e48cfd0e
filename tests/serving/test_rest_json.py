"""JSON to arrays and back, without a server."""
import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import types_pb2

from tfrec.serving import rest_json
from tfrec.serving.refusal import Refusal


def test_types_without_json_are_refused() -> None:
    with pytest.raises(Refusal, match="float16"):
        rest_json.write_outputs({"y": np.zeros(1, np.float16)}, by_row=True)
    with pytest.raises(Refusal, match="to type: half"):
        rest_json.read_inputs(rest_json.parse(b'{"inputs": [1]}'), {"x": types_pb2.DT_HALF})
    with pytest.raises(Refusal, match="inconsistent batch size: 1 expecting: 2"):
        rest_json.write_outputs({"a": np.zeros(2), "b": np.zeros(1)}, by_row=True)


def test_a_value_for_a_signature_without_inputs_is_refused() -> None:
    with pytest.raises(Refusal, match="the signature has no inputs"):
        rest_json.read_inputs(rest_json.parse(b'{"inputs": [1]}'), {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["b64", "x", "y"]), inner, max_size=2),
)


@settings(deadline=None)
@given(JSON, st.sampled_from(["instances", "inputs"]), st.lists(st.sampled_from([1, 3, 7, 9, 10]), min_size=1, max_size=2))
def test_any_json_is_read_or_refused(value: Any, key: str, dtypes: list[int]) -> None:
    with suppress(Refusal):  # any other error is a bug
        body = rest_json.parse(json.dumps({key: value}).encode())
        arrays = rest_json.read_inputs(body, dict(zip("xy", dtypes, strict=False)))
        assert len(arrays) == len(dtypes)
