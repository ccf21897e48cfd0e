"""Errors that a client is told: a gRPC status code and a message, the same for both protocols.

Codes and messages are the real server's; as there, a message is cut at 1024 characters.
"""
from grpc import StatusCode

MAX_MESSAGE = 1024  # characters
_BY_NUMBER = {code.value[0]: code for code in StatusCode}
_HTTP = {
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.ABORTED: 409,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DEADLINE_EXCEEDED: 504,
}


class StatusError(Exception):
    """A request fails with `code` and `message`. It is the client's error and not one of tfrec, so no traceback is logged."""

    def __init__(self, code: StatusCode, message: str) -> None:
        if len(message) > MAX_MESSAGE:
            message = message[:MAX_MESSAGE] + "...TRUNCATED"
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def number(self) -> int:
        """The code as gRPC and TensorFlow number it."""
        return int(self.code.value[0])

    @property
    def http(self) -> int:
        """The status code of the REST protocol."""
        return _HTTP.get(self.code, 500)


def invalid(message: str) -> StatusError:
    """The request itself is wrong."""
    return StatusError(StatusCode.INVALID_ARGUMENT, message)


def status_error_of(error: Exception) -> StatusError:
    """The status of any `error`: TensorFlow's own code where it has one, else INTERNAL."""
    if isinstance(error, StatusError):
        return error
    import tensorflow as tf  # here, as a gateway reads the configuration of a model server and has no TensorFlow

    if isinstance(error, tf.errors.OpError):
        return StatusError(_BY_NUMBER.get(error.error_code, StatusCode.UNKNOWN), str(error.message))
    return StatusError(StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
