"""Verifies an export before it is published: its files agree, and a fresh server gives the answers that it must give.

1. Without a server: every file is the one that was exported (`file_digests.py`), and the parts fit together (`consistency.py`).
2. `tensorflow_model_server`, or the embedded server where that is not installed, loads the export in a process of its own,
   warm-up included. It is asked over gRPC for the manifest's probes (`probes.py`) and for random requests (`answer_checks.py`).
3. The export and its parent, the version that is live, are asked in turns: is it as quick, and are its answers near?
"""
import logging
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrec.data.staging import staging
from tfrec.errors import NotVerified, ServingError
from tfrec.model_server.options import ServeOptions
from tfrec.model_server.patience import Patience
from tfrec.model_server.process import ServerProcess, free_port
from tfrec.model_server.server import find_model_server
from tfrec.release.file_digests import check_files
from tfrec.release.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from tfrec.release.probes import Predict

log = logging.getLogger(__name__)

ASKED_OF_DELTAS = "recommend"  # the signature whose answers show all that a delta may change
_NAME = "verify"
_DAY = 86_400.0  # seconds: a call's own limit, above any patience


class Verifier:
    """A fresh server that verifies exports. Begun before an export is written, it loads the parent meanwhile.

        with Verifier(parent=live) as verifier:
            verifier.verify(export(...))

    Args:
        seconds: of processor time that the server may use to load and to answer, and that it may stand still.
        signatures: only their probes are asked, without warm-up and random requests; by default everything is.
        parent: the version that is live.
    """

    def __init__(self, *, seconds: float = 120.0, signatures: Collection[str] | None = None, parent: Path | None = None) -> None:
        self._seconds, self._signatures = seconds, signatures
        self._parent = parent
        self._held = ExitStack()
        self._number = 1  # of the last version that was linked; the parent's is 1
        self._server: ServerProcess | None = None

    @classmethod
    def of_delta(cls) -> "Verifier":
        """Of a delta, whose graph and weights were verified with its parent."""
        return cls(signatures=[ASKED_OF_DELTAS])

    def __enter__(self) -> "Verifier":
        directory = self._held.enter_context(staging(tempfile.gettempdir(), "tfrec-verify-", mode=0o700))
        self._base = directory / _NAME
        self._base.mkdir()
        self._config = directory / "models.config"
        self._config.write_text(f"""model_config_list {{ config {{ name: "{_NAME}" base_path: "{self._base}"
            model_platform: "tensorflow" model_version_policy {{ all {{}} }} }} }}""")
        if self._parent is not None:
            (self._base / "1").symlink_to(self._parent.absolute())
        self._begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()
        self._held.close()

    def verify(self, export_dir: str | Path) -> int:
        """Raise `NotVerified` unless an export is whole and answers as it must; returns the number of probes."""
        from tfrec.client.warmup import WARMUP_FILE
        from tfrec.release.consistency import check_artefacts  # TensorFlow

        export_dir = Path(export_dir).absolute()
        manifest = read_manifest(export_dir)
        try:
            if not manifest.probes or not (export_dir / WARMUP_FILE).is_file():
                raise ServingError(f"it has no probes or no {WARMUP_FILE}, so it cannot be verified. Export it again.")
            check_files(export_dir, manifest)
            expected = check_artefacts(export_dir, manifest)
            self._number += 1
            link = self._base / str(self._number)
            link.symlink_to(export_dir)
            try:
                return self._ask(manifest, expected)
            finally:
                link.unlink()
        except (ServingError, ValueError, KeyError, TypeError) as error:  # the latter three: of a manifest that was tampered with
            raise NotVerified(f"{export_dir}: not verified, so not published. {error}") from error

    def _ask(self, manifest: Manifest, expected: Any) -> int:
        from tfrec.client.client import Client

        self._ready()
        with ThreadPoolExecutor(1) as pool, Client(self._address, model=_NAME, timeout=_DAY) as client:
            def of_version(version: int) -> "Predict":
                def predict(signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
                    outputs: dict[str, np.ndarray] = self._while_it_works(
                        pool, lambda: client.predict(signature, inputs, version=version).outputs)
                    return outputs
                return predict

            try:
                probes = self._ask_probes(of_version(self._number), manifest)
                if self._signatures is None:
                    self._ask_random(of_version(self._number), of_version(1), manifest, expected)
            except BaseException:
                if self._patience_lost:
                    self._stop()  # or its thread would wait for an answer for ever
                raise
        return probes

    def _ask_probes(self, ours: "Predict", manifest: Manifest) -> int:
        from tfrec.release.probes import probe_difference

        wanted = self._signatures or manifest.signatures
        probes = [(number, probe) for number, probe in enumerate(manifest.probes) if probe.signature in wanted]
        for number, probe in probes:
            if difference := probe_difference(ours, manifest, probe):
                raise ServingError(f"probe {number} ({probe.signature}): {difference}")
        return len(probes)

    def _ask_random(self, ours: "Predict", parents: "Predict", manifest: Manifest, expected: Any) -> None:
        from tfrec.release import answer_checks
        from tfrec.release.popularity_files import read_prior

        requests = answer_checks.Requests(expected, ("",))
        answer_checks.check_answers(ours, expected, requests, recall=float(manifest.index.get("recall_target", 1.0)))
        if self._parent is not None:
            growth = len(expected.catalogue) / max(1, len(read_prior(self._parent)[1]))
            answer_checks.check_near(ours, parents, requests)
            answer_checks.check_latency(ours, parents, requests, growth=growth)

    def _begin(self) -> None:
        options = ServeOptions(
            port=free_port(),
            model_config_file=str(self._config),
            max_num_load_retries=0,
            enable_model_warmup=self._signatures is None,
            poll_seconds=0.05,  # a second's wait for the export would be a good part of the whole
        )
        self._server = ServerProcess(options, installed=find_model_server()).begin()
        self._address = self._server.address
        self._patience_lost = False

    def _stop(self) -> None:
        if self._server is not None:
            self._server.stop(0)  # nobody else asks it
            self._server = None

    def _ready(self) -> None:
        """Wait until the version is loaded, with the parent beside it when that can be; `ServingError` says why it is not."""
        from tfrec.client.client import Client

        if self._server is None:
            self._begin()
        assert self._server is not None
        patience = Patience(self._server.pid, self._seconds)
        try:
            self._server.wait(patience=patience)
        except ServingError:
            if self._parent is None:
                self._stop()
                raise
        states: dict[int, Any] = {}
        with Client(self._address, model=_NAME) as client:
            while True:
                try:
                    self._server.check()
                    states = {entry.version: entry for entry in client.status()}
                except ServingError as error:
                    self._without_parent(error)
                    return
                ours = states.get(self._number)
                if ours is not None and ours.state == "AVAILABLE":
                    break
                if ours is not None and ours.state == "END":
                    raise ServingError(f"it does not load: {ours.error}")
                patience()
                time.sleep(0.02)
        if self._parent is not None and (1 not in states or states[1].state != "AVAILABLE"):
            self._without_parent(ServingError(states[1].error if 1 in states else "it is not loaded"))

    def _without_parent(self, error: ServingError) -> None:
        """Go on without a parent that cannot be served: it must not keep out the version that would replace it."""
        if self._parent is None:
            raise error
        log.warning("%s cannot be served, so nothing is compared with it: %s", self._parent, error)
        self._parent = None
        (self._base / "1").unlink()
        self._stop()
        self._ready()

    def _while_it_works(self, pool: ThreadPoolExecutor, call: Callable[[], Any]) -> Any:
        """The result of `call`; the server is stopped when it stands still, or has worked for too long."""
        assert self._server is not None
        future = pool.submit(call)
        patience: Patience | None = None
        while True:
            try:
                return future.result(timeout=0.5)
            except NotYet:
                patience = patience or Patience(self._server.pid, self._seconds)
                try:
                    patience()
                except ServingError:
                    self._patience_lost = True
                    self._stop()
                    raise


def verify(export_dir: str | Path, *, seconds: float = 120.0, parent: Path | None = None) -> int:
    """Raise `NotVerified` unless a fresh server answers as it must for `export_dir`; returns the number of its probes."""
    with Verifier(seconds=seconds, parent=parent) as verifier:
        return verifier.verify(export_dir)
