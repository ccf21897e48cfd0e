"""Requests that no client should send, from a seed: bytes that are no message, messages that make no sense, broken JSON.

    failures = [wrong for wrong in attack(grpc_address, rest_address, seed=1, count=300)]

Each comes with what a server may say to it. Those that happen to be right are answered.
"""
import gzip
import json
import random
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from tfrec.client.warmup import Request, predict_request

_SERVICE = "/tensorflow.serving."
_METHODS = ("PredictionService/Predict", "PredictionService/GetModelMetadata", "ModelService/GetModelStatus")
_MESSAGES = (
    predict_pb2.PredictRequest,
    get_model_metadata_pb2.GetModelMetadataRequest,
    get_model_status_pb2.GetModelStatusRequest,
)
_OTHERS = ("PredictionService/Classify", "PredictionService/MultiInference", "ModelService/HandleReloadConfigRequest", "No/Such")
_CODES = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED", "OUT_OF_RANGE"}
_UNREADABLE = "INTERNAL"  # gRPC's own code for bytes that are no message of the method's type
_HTTP = {200, 400, 404, 501}
_SIGNATURES = ("", "serving_default", "recommend", "similar", "double", "echo", "__saved_model_init_op", "zz", "\x00")
_ALIASES = ("x", "history", "query", "k", "item", "", "y")
_SIZES = (-(1 << 63), -1, 0, 1, 2, 3, 1 << 20, 1 << 31, (1 << 63) - 1)
_NUMBERS = (None, True, 0, -1, 2, 1.5, 1e39, 10**30, float("nan"))
_SCRAPS = (*_NUMBERS, "", "a", "\ud800", {"b64": "/w=="}, {"b64": "!"}, {"x": 1}, [], [[]])


def attack(grpc_address: str, rest_address: str, *, seed: int, count: int) -> Iterator[str]:
    """Send `count` requests, half on each protocol, and yield what should not have come back, in words."""
    chance = random.Random(seed)
    with grpc.insecure_channel(grpc_address) as channel, httpx.Client(base_url=rest_address, trust_env=False) as http:
        for number in range(count):
            told = _over_grpc(channel, chance) if number % 2 else _over_rest(http, chance)
            if told:
                yield f"request {number} of seed {seed}: {told}"


def _over_grpc(channel: grpc.Channel, chance: random.Random) -> str:
    method = chance.choice(_METHODS if chance.random() < 0.9 else _OTHERS)
    message = _message(method, chance)
    sent = message if isinstance(message, bytes) else message.SerializeToString()
    if chance.random() < 0.3:
        sent = _damaged(sent, chance)
    code, details = "OK", ""
    try:
        channel.unary_unary(_SERVICE + method)(sent, timeout=20)
    except grpc.RpcError as error:
        code, details = error.code().name, error.details()
    unreadable = code == _UNREADABLE and details == "Exception deserializing request!"
    return "" if code in _CODES or unreadable else f"{method} {sent[:200]!r}: {code}: {details}"


def _message(method: str, chance: random.Random) -> Any:
    if method in _OTHERS or chance.random() < 0.1:
        return chance.randbytes(chance.randrange(60))
    message = _MESSAGES[_METHODS.index(method)]()
    if method == _METHODS[0]:
        if chance.random() < 0.5:
            message.CopyFrom(predict_request(Request("double", {"x": np.ones([2, 2], np.float32)}), model="tiny"))
        for _ in range(chance.randrange(4)):
            message.inputs[chance.choice(_ALIASES)].CopyFrom(_tensor(chance))
        message.output_filter.extend(chance.choices(_ALIASES, k=chance.choice((0, 0, 1, 2))))
        message.model_spec.signature_name = chance.choice(_SIGNATURES)
    if method == _METHODS[1]:
        message.metadata_field.extend(chance.choices(("signature_def", "graph", ""), k=chance.randrange(3)))
    message.model_spec.name = chance.choice(("tiny", "tiny", "tiny", "", "x"))
    if chance.random() < 0.2:
        message.model_spec.version.value = chance.choice(_SIZES)
    elif chance.random() < 0.2:
        message.model_spec.version_label = chance.choice(("stable", "zz", ""))
    return message


def _tensor(chance: random.Random) -> tensor_pb2.TensorProto:
    tensor = tensor_pb2.TensorProto(dtype=chance.randrange(-1, 32))
    for _ in range(chance.randrange(4)):
        tensor.tensor_shape.dim.add(size=chance.choice(_SIZES))
    tensor.tensor_shape.unknown_rank = chance.random() < 0.1
    tensor.float_val.extend([1.5] * chance.randrange(3))
    tensor.int_val.extend([1] * chance.randrange(3))
    tensor.string_val.extend([b"\xff"] * chance.randrange(3))
    if chance.random() < 0.2:
        tensor.tensor_content = chance.randbytes(chance.randrange(20))
    return tensor


def _damaged(sent: bytes, chance: random.Random) -> bytes:
    cut = chance.randrange(len(sent) + 1)
    return sent[:cut] + chance.randbytes(chance.randrange(4)) + sent[cut + chance.randrange(3) :]


def _over_rest(http: httpx.Client, chance: random.Random) -> str:
    method = chance.choice(("GET", "POST", "POST", "POST", "PUT", "HEAD"))
    path = _path(chance)
    body = json.dumps(_body(chance)).encode() if chance.random() < 0.8 else chance.randbytes(chance.randrange(60))
    if chance.random() < 0.2:
        body = _damaged(body, chance)
    headers = {}
    if chance.random() < 0.1:
        headers["content-encoding"] = "gzip"
        body = chance.choice((body, gzip.compress(body)[: chance.randrange(40)], gzip.compress(body)))
    answer = http.request(method, path, content=body if method != "GET" else None, headers=headers)
    told = f"{method} {path} {body[:200]!r}: {answer.status_code}: {answer.text[:200]}"
    if answer.status_code not in _HTTP:
        return told
    if path.startswith("/v1/") and method != "HEAD":
        document = answer.json()
        if answer.status_code != 200 and (list(document) != ["error"] or not isinstance(document["error"], str)):
            return told
    return ""


def _path(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return "/v1/models/tiny:predict"
    name = chance.choice(("tiny", "x", "%00", "%ff", "a%2Fb", "a b", "é", ":", "t" * 5000))
    which = chance.choice(("", "/versions/1", "/versions/-1", "/versions/", f"/versions/{'9' * chance.choice((19, 20, 5000))}"))
    which = chance.choice((which, "/labels/stable", "/labels/%ff", "/labels/"))
    end = chance.choice(("", ":predict", ":classify", ":zz", "/metadata", "//", "?q=%"))
    return chance.choice(("/v1/models/", "/v1/models", "/V1/MODELS/", "/", "/v1/")) + name + which + end


def _body(chance: random.Random) -> Any:
    body: dict[str, Any] = {}
    for key in chance.sample(("instances", "inputs"), chance.choice((0, 1, 1, 1, 1, 2))):
        body[key] = _json(chance, 4)
    if chance.random() < 0.8:
        body["signature_name"] = chance.choice((*_SIGNATURES, "double", "double", None, 7))
    return body if chance.random() < 0.95 else _json(chance, 4)


def _json(chance: random.Random, depth: int) -> Any:
    if depth == 0 or chance.random() < 0.3:
        return chance.choice(_SCRAPS)
    if chance.random() < 0.02:
        deep: Any = 1.0
        for _ in range(chance.choice((10, 300))):
            deep = [deep]
        return deep
    if chance.random() < 0.6:
        return [_json(chance, depth - 1) for _ in range(chance.randrange(4))]
    return {chance.choice(_ALIASES): _json(chance, depth - 1) for _ in range(chance.randrange(4))}
