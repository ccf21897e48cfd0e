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
    status, answer = predict(http, {"signature_name": "echo", "inputs": [{"b64": "/w=="}, "ü"]})
    assert status == 200
    assert answer["outputs"]["raw_bytes"] == [{"b64": "/w=="}, {"b64": "w7w="}]
    assert answer["outputs"]["items"][1] == "ü"
    assert answer["outputs"]["total"] == 2


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
        ("GET", "/v1/models/tiny/labels/beta", 400, "Unrecognized servable version label: beta"),
        ("GET", f"/v1/models/tiny/versions/{1 << 63}", 400, f"Failed to convert version: {1 << 63} to numeric."),
        ("POST", "/v1/models/x:predict", 404, "Servable not found for request: Latest(x)"),
        ("POST", "/v1/models/tiny/labels/beta:predict", 400, "Unrecognized servable version label: beta"),
    ],
)
def test_other_paths_and_names(http: httpx.Client, method: str, path: str, status: int, message: str) -> None:
    """REST routes, REST status codes: other paths, methods and names."""
    response = http.request(method, path, content=json.dumps(DOUBLE) if method == "POST" else None)
    assert response.status_code == status
    assert response.json() == {"error": message}


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
        ({"instances": {}}, "Excepting 'instances' to be an list/array"),
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
        ({**DOUBLE, "instances": [[1e39, 1.0]]}, "Cannot convert JSON value: 1e+39 to float without loss of precision."),
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
