"""The errors of a request to the model server.

    RequestFailed           the server did not answer, or refused the request
        LabelNotServed      no version has the label that was asked for
        InputNotServed      the version is older than something that was asked of it
"""
from tfrec.errors import ServingError


class RequestFailed(ServingError):
    """The server did not answer, or refused the request.

    `code` is the name of the gRPC status. `down` is true if no server answered in time, so that another try may succeed.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code
        self.down = code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


class LabelNotServed(RequestFailed):
    """No version has the label that was asked for."""


class InputNotServed(RequestFailed):
    """The version was exported before it could do something that the request asks for."""
