"""Nothing that comes over the network breaks the server; `tests/benchmarks/malformed_requests.py` sends ten thousand."""
import httpx

from tests.model_server.malformed import attack
from tests.model_server.tiny import Running


def test_what_makes_no_sense_is_refused_with_the_documented_codes(server: Running) -> None:
    assert list(attack(server.grpc, server.rest, seed=1, count=400)) == []
    body = {"signature_name": "double", "instances": [[1.0, 2.0]]}
    assert httpx.post(f"{server.rest}/v1/models/tiny:predict", json=body, trust_env=False).json() == {"predictions": [[2.0, 4.0]]}
