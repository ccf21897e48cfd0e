"""How long a client may keep the gateway waiting, and how long a call may take."""
from dataclasses import dataclass


@dataclass(frozen=True)
class TimeLimits:
    """All in seconds."""

    head: float = 10.0  # for the line and headers of a request to arrive
    body: float = 10.0  # for the body of a verb to arrive; then the answer is 408
    other_body: float = 15.0  # for the rest of any other request; longer than `body`, whose answer comes first
    answer: float = 20.0  # for the client to take 64 kB of an answer, or all of it
    idle: int = 65  # between two requests; longer than the minute of most proxies, so that they close first
    sweep: float = 1.0  # between two looks for slow connections
    call: float = 30.0  # for the work of a call that names no time (X-Timeout-Seconds)
    max_call: float = 60.0  # the longest time that a call may name
    close: int = 10  # for calls in progress to end when the gateway stops
