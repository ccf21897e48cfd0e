"""Status codes of the two protocols, as `serving.md` pairs them."""
import pytest
import tensorflow as tf
from grpc import StatusCode

from tfrec.model_server.grpc_status import StatusError, status_error_of


@pytest.mark.parametrize(
    ("http", "codes"),
    [
        (400, "INVALID_ARGUMENT FAILED_PRECONDITION OUT_OF_RANGE"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (409, "ALREADY_EXISTS ABORTED"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL DATA_LOSS UNKNOWN CANCELLED"),
        (501, "UNIMPLEMENTED"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
    ],
)
def test_http_codes(http: int, codes: str) -> None:
    assert {StatusError(StatusCode[code], "").http for code in codes.split()} == {http}


def test_tensorflow_errors_keep_their_code() -> None:
    status_error = status_error_of(tf.errors.NotFoundError(None, None, "Op type not registered 'X'"))
    found = (status_error.code, status_error.message, status_error.number)
    assert found == (StatusCode.NOT_FOUND, "Op type not registered 'X'", 5)
    status_error = status_error_of(KeyError("x"))
    assert (status_error.code, status_error.message) == (StatusCode.INTERNAL, "KeyError: 'x'")
    assert status_error_of(status_error) is status_error
