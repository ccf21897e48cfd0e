"""The REST protocol: predict, status and metadata over HTTP."""
import gzip
import json
from typing import Any

import httpx
import numpy as np
import pytest


def predict(http: httpx.Client, body: Any, *, at: str = "") -> tuple[int, Any]:
    response = http.post(f"/v1/models/tiny{at}:predict", content=body if isinstance(body, bytes) else json.dumps(body))
    assert response.headers["content-type"] == "application/json"
    return response.status_code, response.json()


DOUBLE = {"signature_name": "double", "instances": [[1.0, 2.0]]}


def test_instances_give_predictions(http: httpx.Client) -> None:
    """REST JSON: instances -> predictions; NaN and Infinity allowed."""
    rows = [{"history": ["b"], "query": "d", "k": 2}, {"history": [""], "query": "", "k": 1}]
    assert predict(http, {"instances": rows}) == (
        200,
        {
            "predictions": [
                {"items": ["d", "a"], "scores": [107.0, 10.0]},
                {"items": ["a", ""], "scores": [10.0, -np.inf]},
            ]
        },
    )


def test_inputs_give_outputs_and_one_output_drops_its_name(http: httpx.Client) -> None:
    """REST JSON: inputs -> outputs; a single output drops its name."""
    assert predict(http, {"inputs": {"history": [["b"]], "query": ["d"], "k": [1]}}) == (
        200,
        {"outputs": {"items": [["d"]], "scores": [[107.0]]}},
    )
    assert predict(http, DOUBLE) == (200, {"predictions": [[2.0, 4.0]]})
    assert predict(http, {"signature_name": "double", "inputs": [[1.0, 0.1]]}) == (200, {"outputs": [[2.0, 0.2]]})


def test_bytes_come_and_go_as_base64(http: httpx.Client) -> None:
    """REST JSON: strings or b64; a name that ends in _bytes returns b64."""
    for coded in ("/w==", "/w", " /\\nw= ="):
        body = b'{"signature_name": "echo", "inputs": [{"b64": "%s"}, "\xc3\xbc", "\xff"]}' % coded.encode()
        answer = http.post("/v1/models/tiny:predict", content=body)
        assert answer.status_code == 200
        found = json.loads(answer.content.decode("latin-1"))["outputs"]
        assert found["raw_bytes"] == [{"b64": "/w=="}, {"b64": "w7w="}, {"b64": "/w=="}]
        assert found["items"] == ["\xff", "\xc3\xbc", "\xff"]  # bytes that are no UTF-8 come raw
        assert found["total"] == 3


@pytest.mark.parametrize(
    ("literal", "doubled"), [("1e39", np.inf), ("-1e39", -np.inf), ("1e-400", 0.0), ("-0.0", 0.0), ("1e30", 2e30), ("3", 6.0)]
)
def test_numbers_that_a_float_does_not_hold(http: httpx.Client, literal: str, doubled: float) -> None:
    """REST JSON: Infinity allowed: a double beyond the floats becomes one."""
    status, answer = predict(http, b'{"signature_name": "double", "inputs": [[%s, 1.0]]}' % literal.encode())
    assert status == 200
    assert np.float32(answer["outputs"][0][0]) == np.float32(doubled)


def test_of_a_key_that_comes_twice_the_first_counts(http: httpx.Client) -> None:
    """REST JSON: keys of the document."""
    body = b'{"signature_name": "double", "inputs": [[1.0, 2.0]], "inputs": [[3.0, 4.0]], "signature_name": "echo"}'
    assert predict(http, body) == (200, {"outputs": [[2.0, 4.0]]})


def test_what_stands_around_a_document(http: httpx.Client) -> None:
    """REST JSON: white space and the mark of UTF-8 are passed over."""
    body = json.dumps(DOUBLE).encode()
    for around in (b"\xef\xbb\xbf" + body, b" \n" + body + b"\r\n\t"):
        assert predict(http, around) == (200, {"predictions": [[2.0, 4.0]]})


def test_an_output_without_batch_is_fine_only_under_inputs(http: httpx.Client) -> None:
    """REST JSON: no batch dimension under instances -> 400."""
    status, answer = predict(http, {"signature_name": "echo", "instances": ["a"]})
    assert status == 400
    assert "has no shape information" in answer["error"]


@pytest.mark.parametrize(("at", "expected"), [("/versions/3", 3), ("/labels/old", 3), ("/labels/stable", 4), ("/VERSIONS/4", 4)])
def test_versions_and_labels_in_the_path(http: httpx.Client, at: str, expected: int) -> None:
    """REST routes: /versions/N and /labels/L."""
    body = {"instances": [{"history": [""], "query": "", "k": 1}]}
    status, answer = predict(http, body, at=at)
    assert status == 200
    assert answer["predictions"][0]["scores"] == [{3: 0.0, 4: 10.0}[expected]]
    metadata = http.get(f"/v1/models/tiny{at}/metadata").json()
    assert metadata["model_spec"]["version"] == str(expected)


def test_gzip_bodies_are_accepted(http: httpx.Client) -> None:
    """REST JSON: gzip request bodies."""
    headers = {"content-encoding": "gzip"}
    body = json.dumps(DOUBLE).encode()
    answer = http.post("/v1/models/tiny:predict", content=gzip.compress(body), headers=headers)
    assert answer.json() == {"predictions": [[2.0, 4.0]]}
    assert http.post("/v1/models/tiny:predict", content=body, headers=headers).status_code == 400
    for encoding, status in (("x-gzip", 200), ("gzip, deflate", 200), ("GZIP", 400), ("deflate", 400), ("identity", 400)):
        answer = http.post("/v1/models/tiny:predict", content=gzip.compress(body), headers={"content-encoding": encoding})
        assert (encoding, answer.status_code) == (encoding, status)
    for cut in (gzip.compress(body)[:-5], gzip.compress(body)[:5], b""):
        assert http.post("/v1/models/tiny:predict", content=cut, headers=headers).status_code == 400


def test_status_and_metadata(http: httpx.Client) -> None:
    """REST routes, Status: enums and versions as strings, newest first."""
    state = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert http.get("/v1/models/tiny").json() == {
        "model_version_status": [{"version": "4", **state}, {"version": "3", **state}]
    }
    assert http.get("/v1/models/tiny/versions/3").json() == {"model_version_status": [{"version": "3", **state}]}
    metadata = http.get("/v1/models/tiny/metadata").json()
    assert metadata["model_spec"]["name"] == "tiny"
    inputs = metadata["metadata"]["signature_def"]["signature_def"]["double"]["inputs"]
    assert inputs["x"]["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in inputs["x"]["tensor_shape"]["dim"]] == ["-1", "2"]


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v1/nothing", 400, "Malformed request: GET /v1/nothing"),
        ("GET", "/v1/models/tiny:predict", 400, "Malformed request: GET /v1/models/tiny:predict"),
        ("POST", "/v1/models/tiny", 400, "Malformed request: POST /v1/models/tiny"),
        ("DELETE", "/v1/models/tiny", 400, "Malformed request: DELETE /v1/models/tiny"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/v1/models/x", 404, "Could not find any versions of model x"),
        ("GET", "/v1/models/tiny/versions/9", 404, "Could not find version 9 of model tiny"),
        ("GET", "/v1/models/x/metadata", 404, "Servable not found for request: Latest(x)"),
        ("GET", "/v1/models/tiny/labels/beta/metadata", 400, "Unrecognized servable version label: beta"),
        ("GET", "/v1/models/x/labels/beta", 404, "Could not find any versions of model x"),
        ("GET", "/v1/models/tiny?x=1", 404, "Could not find any versions of model tiny?x=1"),
        ("GET", "/v1/models/", 400, "Malformed request: GET /v1/models/"),
        ("GET", "/v1/models/tiny/", 400, "Malformed request: GET /v1/models/tiny/"),
        ("PUT", "/v1/models/tiny:predict", 400, "Malformed request: PUT /v1/models/tiny:predict"),
        ("OPTIONS", "/v1/models/tiny", 400, "Malformed request: OPTIONS /v1/models/tiny"),
        ("POST", "/v1/models/tiny:predict/", 400, "Malformed request: POST /v1/models/tiny:predict/"),
        ("POST", "/v1/models/tiny:predict?x=1", 400, "Malformed request: POST /v1/models/tiny:predict?x=1"),
        ("POST", "/v1/models/tiny:PREDICT", 400, "Malformed request: POST /v1/models/tiny:PREDICT"),
        ("POST", "/v1/models/tiny%3Apredict", 400, "Malformed request: POST /v1/models/tiny%3Apredict"),
        ("POST", "/v1/models/x:predict", 404, "Servable not found for request: Latest(x)"),
        ("POST", "/v1/models/tiny/labels/beta:predict", 400, "Unrecognized servable version label: beta"),
    ],
)
def test_other_paths_and_names(http: httpx.Client, method: str, path: str, status: int, message: str) -> None:
    """REST routes, REST status codes: other paths, methods and names."""
    response = http.request(method, path, content=json.dumps(DOUBLE) if method == "POST" else None)
    assert response.status_code == status
    assert response.json() == {"error": message}


def test_labels_do_not_choose_among_the_states_of_a_model(http: httpx.Client) -> None:
    """Status: of all versions, whatever the label, known or not; "metadata" in capitals is none."""
    everything = http.get("/v1/models/tiny").json()
    for path in ("/labels/stable", "/labels/beta", "/METADATA"):
        answer = http.get(f"/v1/models/tiny{path}")
        assert (answer.status_code, answer.json()) == (200, everything)


@pytest.mark.parametrize(("method", "end"), [("GET", ""), ("GET", "/metadata"), ("POST", ":predict")])
@pytest.mark.parametrize("version", [str(1 << 63), "9" * 5000])
def test_a_version_that_is_no_int64_has_no_message(http: httpx.Client, method: str, end: str, version: str) -> None:
    """REST status codes: 400; the real server has words for it, and does not send them."""
    answer = http.request(method, f"/v1/models/tiny/versions/{version}{end}")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (400, b"", "application/json")


def test_names_in_a_path_are_unescaped(http: httpx.Client) -> None:
    """REST routes: percent signs in a name or label, and no plus sign."""
    assert http.post("/v1/models/t%69ny/labels/st%61ble:predict", content=json.dumps(DOUBLE)).status_code == 200
    assert http.get("/v1/models/a%2Fb").json() == {"error": "Could not find any versions of model a/b"}
    assert http.get("/v1/models/a+b").json() == {"error": "Could not find any versions of model a+b"}


def test_the_model_is_looked_for_before_its_inputs(http: httpx.Client) -> None:
    """REST status codes: of what is wrong with a request the model and its signature are told before the inputs."""
    for at, body, status in (("x", b"{}", 404), ("tiny", b'{"signature_name": "zz"}', 400), ("x", b"{", 400)):
        answer = http.post(f"/v1/models/{at}:predict", content=body)
        assert answer.status_code == status
        assert ("not found" in answer.text) == (body != b"{")


def test_outside_v1_is_html(http: httpx.Client) -> None:
    """REST routes: outside /v1/ 404 HTML; Monitoring: no metrics without its config."""
    for path in ("/metrics", "/monitoring/prometheus/metrics"):
        response = http.get(path)
        assert response.status_code == 404
        assert response.headers["content-type"] == "text/html"
        assert "Not Found" in response.text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"{", "JSON Parse error: "),
        (b"\xff{}", "JSON Parse error: "),
        (b"[" * 100_000, "JSON Parse error: "),
        ([1], "Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": [1], "inputs": [1]}, "expecting only one of 'inputs' or 'instances' keys to exist"),
        ({"instances": {}}, "Expecting 'instances' to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"signature_name": 100, "instances": [1]}, "'signature_name' key must be a string value."),
        ({"signature_name": "zz", "instances": [1]}, 'Serving signature name: "zz" not found in signature def'),
        ({"instances": ["a"]}, "instances is a plain list, but expecting list of objects"),
        ({"inputs": ["a"]}, "inputs is a plain value/list, but expecting an object"),
        ({"inputs": {"query": ["a"]}}, "Missing named input: history in 'inputs' object."),
        ({"instances": [{"query": "a"}]}, "keys must be equal to: history,k,query"),
        ({"instances": [{"history": [], "query": "a", "k": 1}, ["a"]]}, "Expecting object but got list at item 1 of input list"),
        ({**DOUBLE, "instances": [[1.0], {"x": 1}]}, "Expecting value/list but got object at item 1 of input list"),
        ({**DOUBLE, "instances": [[1.0], [1.0, 2.0]]}, "Expecting tensor size: 1 but got: 2"),
        ({**DOUBLE, "instances": [[[1.0, 2.0]], [[1.0], [2.0]]]}, "Expecting shape [1,2] but got: [2,1]"),
        ({**DOUBLE, "instances": [[1.0, [2.0]]]}, "Encountered list at unexpected level: 1 expected < 1"),
        ({**DOUBLE, "instances": [[[1.0], 2.0]]}, "found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ({**DOUBLE, "instances": [[[1.0], [2.0, 3.0]]]}, "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        ({**DOUBLE, "instances": [["a", 1.0]]}, 'JSON Value: "a" Type: String is not of expected type: float'),
        ({**DOUBLE, "instances": [[True, 1.0]]}, "Type: True is not of expected type: float"),
        ({**DOUBLE, "instances": [[None, 1.0]]}, "Type: Null is not of expected type: float"),
        (b'{"signature_name": "double", "instances": [[1e400, 1.0]]}', "JSON Parse error: "),
        (b'{"signature_name": "double", "instances": [[1%s, 1.0]]}' % (b"0" * 400), "JSON Parse error: "),
        (b'{"signature_name": "echo", "inputs": ["\\ud800"]}', "JSON Parse error: "),
        (b'{"signature_name": "echo", "inputs": ["\\udc00"]}', "JSON Parse error: "),
        (b'{"signature_name": "echo", "inputs": ["\\ud800\\u0041"]}', "JSON Parse error: "),
        (b"   ", "JSON Parse error: The document is empty"),
        ({"instances": [{"history": [""], "query": "a", "k": True}]}, "Type: True is not of expected type: int32"),
        ({"instances": [{"history": [""], "query": "a", "k": 1 << 64}]}, "Type: Number is not of expected type: int32"),
        ({"instances": [{"history": [""], "query": "a", "k": 1, "x": 1}]}, "JSON object: does not have named input: x"),
        ({"instances": [{"history": [""], "query": {"b64": "/w="}, "k": 1}]}, "Unable to base64 decode"),
        ({"instances": [{"history": [""], "query": {"b64": "/"}, "k": 1}]}, "Unable to base64 decode"),
        ({"instances": [{"history": [1], "query": "a", "k": 1}]}, "Type: Number is not of expected type: string"),
        ({"instances": [{"history": [""], "query": "a", "k": 1.5}]}, "Type: Number is not of expected type: int32"),
        ({"instances": [{"history": [""], "query": "a", "k": 1 << 31}]}, "Type: Number is not of expected type: int32"),
        ({"instances": [{"history": [""], "query": {"b64": "!"}, "k": 1}]}, "Unable to base64 decode"),
        ({"instances": [{"history": [""], "query": {"x": "!"}, "k": 1}]}, "not formatted correctly for base64 data"),
    ],
)
def test_bad_bodies(http: httpx.Client, body: Any, message: str) -> None:
    """REST JSON, REST status codes: what cannot be read is 400."""
    status, answer = predict(http, body)
    assert status == 400
    assert message in answer["error"]
