"""The numeric columns of the versions that answer: a bound of a column that a version does not have is the caller's mistake.

The graph answers such a request with no item, as it must not fail the other rows of a batch. Which version answers is known once
it has; so answers are checked, and not requests.
"""
from collections.abc import Callable, Sequence
from pathlib import Path

from tfrec.gateway.http.refusal import RequestRefused
from tfrec.gateway.routing.slate_request import SlateAnswer, SlateRequest
from tfrec.release.popularity_files import read_columns

_KEPT = 64  # versions


class KnownColumns:
    """Reads the columns of each version once. Safe to share between threads.

    Args:
        version_dir: the directory of a version; None where it is not known.
    """

    def __init__(self, version_dir: Callable[[int], Path | None]) -> None:
        self._version_dir = version_dir
        self._columns: dict[int, tuple[str, ...] | None] = {}

    def check(self, requests: Sequence[SlateRequest], answers: Sequence[SlateAnswer]) -> None:
        """Refuse a request whose bounds name a column that the version which answered does not have.

        Raises:
            RequestRefused: 422; names the columns that there are.
        """
        for request, answer in zip(requests, answers, strict=True):
            known = self._of(answer.version) if request.bounds else None
            if known is not None and not request.bounds.keys() <= set(known):
                there = f"has these: {', '.join(known)}" if known else "has none"
                message = f"Expected numeric columns of the catalogue, which {there}. One that is named here is not among them."
                raise RequestRefused(422, message, field="bounds")

    def _of(self, version: int) -> tuple[str, ...] | None:
        """The columns of a version; None where its files do not tell."""
        if version not in self._columns:
            directory = self._version_dir(version)
            if len(self._columns) >= _KEPT:
                self._columns.clear()
            self._columns[version] = None if directory is None else read_columns(directory)
        return self._columns[version]
