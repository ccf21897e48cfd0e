"""JSON to arrays and back, without a server."""
import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import types_pb2

from tfrec.model_server.grpc_status import StatusError
from tfrec.model_server.rest.document import parse
from tfrec.model_server.rest.inputs import read_inputs
from tfrec.model_server.rest.outputs import write_outputs


def test_types_without_json_are_refused() -> None:
    with pytest.raises(StatusError, match="tensor type: half"):
        write_outputs({"y": np.zeros(1, np.float16)}, by_row=True)
    with pytest.raises(StatusError, match="to type: half"):
        read_inputs(parse(b'{"inputs": [1]}'), {"x": types_pb2.DT_HALF})
    with pytest.raises(StatusError, match="inconsistent batch size: 1 expecting: 2"):
        write_outputs({"a": np.zeros(2), "b": np.zeros(1)}, by_row=True)
    with pytest.raises(StatusError, match="invalid batch size: 0"):
        write_outputs({"a": np.zeros([0, 2])}, by_row=True)
    assert write_outputs({"a": np.zeros([0, 2])}, by_row=False) == b'{"outputs": []}'


def test_a_value_for_a_signature_without_inputs_is_refused() -> None:
    with pytest.raises(StatusError, match="Failed to get input map for signature: DEFAULT"):
        read_inputs(parse(b'{"inputs": [1]}'), {})


@given(st.lists(st.binary(max_size=4) | st.text(max_size=3).map(str.encode), min_size=1, max_size=4))
def test_text_comes_back_as_the_bytes_that_were_sent(texts: list[bytes]) -> None:
    array = np.empty(len(texts), object)
    array[:] = texts
    written = write_outputs({"x": array}, by_row=False).replace(b'"outputs"', b'"inputs"')
    read, by_row = read_inputs(parse(written), {"x": types_pb2.DT_STRING})
    assert (read["x"].tolist(), by_row) == (texts, False)


@pytest.mark.parametrize(
    ("dtype", "literal", "value"),
    [
        (types_pb2.DT_INT64, "-9223372036854775808", -(1 << 63)),
        (types_pb2.DT_INT64, "9223372036854775808", None),
        (types_pb2.DT_INT64, "1.0", None),
        (types_pb2.DT_INT64, "true", None),
        (types_pb2.DT_INT32, "2147483648", None),
        (types_pb2.DT_UINT8, "256", None),
        (types_pb2.DT_UINT64, "18446744073709551615", (1 << 64) - 1),
        (types_pb2.DT_UINT64, "-1", None),
        (types_pb2.DT_DOUBLE, "9" * 400, None),
        (types_pb2.DT_DOUBLE, "9" * 5000, None),
        (types_pb2.DT_DOUBLE, "1e400", None),
        (types_pb2.DT_DOUBLE, "-1e400", None),
        (types_pb2.DT_DOUBLE, "1e-400", 0.0),
        (types_pb2.DT_DOUBLE, "1" + "0" * 30, 1e30),
        (types_pb2.DT_DOUBLE, "-Infinity", -np.inf),
        (types_pb2.DT_FLOAT, "1e39", np.inf),
        (types_pb2.DT_FLOAT, "-0.0", 0.0),
        (types_pb2.DT_BOOL, "false", False),
        (types_pb2.DT_BOOL, "0", None),
        (types_pb2.DT_FLOAT, "true", None),
        (types_pb2.DT_FLOAT, "null", None),
        (types_pb2.DT_FLOAT, '"1"', None),
        (types_pb2.DT_FLOAT, "01", None),
        (types_pb2.DT_FLOAT, "+1", None),
    ],
)
def test_numbers_are_taken_whole_or_refused(dtype: int, literal: str, value: Any) -> None:
    def read() -> Any:
        return read_inputs(parse(b'{"inputs": [%s]}' % literal.encode()), {"x": dtype})[0]["x"].tolist()

    if value is None:
        with pytest.raises(StatusError):
            read()
    else:
        assert read() == [value]


def test_a_message_shows_no_more_of_a_document_than_it_has_room_for() -> None:
    large = json.dumps({"instances": {"x": ["a" * 100] * 50_000}}).encode()
    with pytest.raises(StatusError, match=r"JSON Value: (?s:.*)\.\.\.TRUNCATED") as caught:
        read_inputs(parse(large), {"x": types_pb2.DT_STRING})
    assert len(caught.value.message) < 1100


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["b64", "x", "y"]), inner, max_size=2),
)


@settings(deadline=None)
@given(JSON, st.sampled_from(["instances", "inputs"]), st.lists(st.sampled_from([1, 3, 7, 9, 10]), min_size=1, max_size=2))
def test_any_json_is_read_or_refused(value: Any, key: str, dtypes: list[int]) -> None:
    with suppress(StatusError):  # any other error is a bug
        body = parse(json.dumps({key: value}).encode())
        arrays = read_inputs(body, dict(zip("xy", dtypes, strict=False)))
        assert len(arrays[0]) == len(dtypes)
