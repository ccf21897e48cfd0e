"""The one exception by which a request is refused."""


class RequestRefused(Exception):
    """A request that is not answered. The message is for the caller, so it repeats nothing that a person may have typed.

    Args:
        status: of HTTP.
        message: what is wrong, and what to send.
        headers: of the answer, as (name, value).
        field: the field of the body that is wrong, if it is one.
    """

    def __init__(self, status: int, message: str, *headers: tuple[str, str], field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.field = field

    @property
    def errors(self) -> list[dict[str, str]]:
        """The errors as the body of the answer holds them."""
        field = {} if self.field is None else {"field": self.field}
        return [field | {"message": str(self)}]
