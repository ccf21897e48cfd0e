"""Lets a gateway take up erasures, whoever erased somebody: it looks for new tombstones, and says which it has taken up."""
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tfrec.data.people.erasures import Erasures, refresh
from tfrec.data.people.pseudonym import Pseudonyms
from tfrec.erasure.run_files import say_taken_up
from tfrec.errors import TfrecError

LOOK_SECONDS = 1.0
_LOOK_REMOTE_SECONDS = 5.0  # at an object store, where a look is a few requests
log = logging.getLogger(__name__)


class ErasureWatch:
    """A thread, for as long as the block runs.

    Args:
        people: the pseudonyms of the gateway.
        erasures: the tombstones.
        erase: forgets whom `people` know as erased, in memory and in the write-ahead file.
        wal: the write-ahead file, beside which it says so.
        seconds: between two looks.
    """

    def __init__(self, people: Pseudonyms, erasures: Erasures, erase: Callable[[], None], *, wal: Path,
                 seconds: float | None = None) -> None:
        self._people, self._erasures, self._erase, self._wal = people, erasures, erase, wal
        remote = "://" in erasures.table.uri
        self._seconds = seconds or (_LOOK_REMOTE_SECONDS if remote else LOOK_SECONDS)
        self._is_behind = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="erasures", daemon=True)

    def __enter__(self) -> "ErasureWatch":
        if self._people.erasures:  # what was read at the start may be of before they were erased
            self._erase()
        say_taken_up(self._wal, self._people.erasures)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(self._seconds):
            self.look()

    def look(self) -> None:
        """Take up new tombstones."""
        try:
            self._is_behind = refresh(self._people, self._erasures) or self._is_behind
            if self._is_behind:
                began = time.monotonic()
                self._erase()
                say_taken_up(self._wal, self._people.erasures)
                self._is_behind = False
                log.info("took up %d erasures in %.2f s", self._people.erasures, time.monotonic() - began)
        except (TfrecError, OSError) as error:  # it is tried again at the next look
            log.warning("an erasure cannot be taken up: %s", error)
