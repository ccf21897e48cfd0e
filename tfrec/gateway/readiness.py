"""Whether the gateway is ready to answer: the model server serves a version, and records can be kept."""
import logging
import threading
import time

from tfrec.client.client import Client
from tfrec.data.feedback_log.writer import LogWriter
from tfrec.errors import TfrecError
from tfrec.gateway.fleet.peers import NoPeers, Peers
from tfrec.gateway.http.error_responses import NO_ANSWER, without_source
from tfrec.gateway.rules.rules_file import RulesFile

log = logging.getLogger(__name__)


class Readiness:
    """Checks the model server and the log. Safe to share between threads.

    Args:
        client: of the model server.
        writer: of the log.
        peers: the other gateways; without them this one is ready all the same.
        rules: of the business; with a wrong file this gateway is ready all the same, by the rules of before.
        hold_seconds: how long a result holds, so that frequent probes do not load the disk.
    """

    def __init__(self, client: Client, writer: LogWriter, *, peers: Peers | None = None, rules: RulesFile | None = None,
                 hold_seconds: float = 1.0) -> None:
        self._client = client
        self._writer = writer
        self._peers = peers or NoPeers()
        self._rules = rules
        self._hold_seconds = hold_seconds
        self._checked_at = -hold_seconds
        self._problems: dict[str, str] = {}
        self._lock = threading.Lock()

    def problems(self) -> dict[str, str]:
        """What is wrong with `model_server` and with `log`; empty if nothing is."""
        with self._lock:
            if time.monotonic() - self._checked_at >= self._hold_seconds:
                found = {"model_server": self._problem_of_server(), "log": self._problem_of_log()}
                self._checked_at, self._problems = time.monotonic(), {name: why for name, why in found.items() if why}
            return self._problems

    def remarks(self) -> dict[str, str]:
        """What a ready gateway lacks: `peers`, if the other gateways are not heard; `rules`, if their file is wrong."""
        found = {"peers": self._peers.problem(), "rules": ""}
        if self._rules is not None and self._rules.problem():
            found["rules"] = "the file of rules is wrong, and the rules of before hold"  # its path is for our log only
        return {name: problem for name, problem in found.items() if problem}

    def _problem_of_server(self) -> str:
        try:
            is_available = any(version.state == "AVAILABLE" for version in self._client.status())
        except TfrecError as error:  # its address is for our log only: anyone may ask
            log.warning("not ready: %s", error)
            return NO_ANSWER
        return "" if is_available else "it serves no version"

    def _problem_of_log(self) -> str:
        try:
            self._writer.check()
        except TfrecError as error:
            log.warning("not ready: %s", error)
            return without_source(error)
        return ""
