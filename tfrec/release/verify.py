"""Verifies an export before it is published: its files agree, and a model server gives the answers that it must give.

1. Without a server: every file is the one that was exported (`file_digests.py`), and the parts fit together (`consistency.py`).
2. `tensorflow_model_server`, or the embedded server where that is not installed, loads the export in a process of its own. It is
   asked over gRPC for the export's warm-up, its probes (`probes.py`) and for random requests (`answer_checks.py`).
3. The export and its parent, the version that is live, are asked in turns: is it as quick, and are its answers near?

An export that shares its parent's graph (`shared_graph.py`) is asked less. The digests prove that the graph computes what it was
seen to compute with the parent, and `consistency.py` that it does so with the checkpoint's weights. What is left are the answers.
"""
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrec.data.staging import staging
from tfrec.errors import NotVerified, ServingError
from tfrec.model_server.options import ServeOptions
from tfrec.model_server.patience import Patience
from tfrec.model_server.process import ServerProcess
from tfrec.model_server.server import find_model_server
from tfrec.release.file_digests import check_files
from tfrec.release.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from tfrec.release.probes import Predict

log = logging.getLogger(__name__)

SAMPLE_OF_SHARED = 16  # items whose vectors are made anew
_NAME = "verify"
_DAY = 86_400.0  # seconds: a call's own limit, above any patience


class Verifier:
    """A model server that verifies exports. Begun before an export is written, it gets ready meanwhile.

        with Verifier() as verifier:
            verifier.verify(export(...), parent=live)

    It may verify any number of exports, one after the other. Its server ends with this process, and one that has ended in between
    is started anew.

    Args:
        seconds: of processor time that the server may use to load and to answer, and that it may stand still.
    """

    def __init__(self, *, seconds: float = 120.0) -> None:
        self._seconds = seconds
        self._held = ExitStack()
        self._number = 0  # of the last version that was linked
        self._server: ServerProcess | None = None

    def __enter__(self) -> "Verifier":
        directory = self._held.enter_context(staging(tempfile.gettempdir(), "tfrec-verify-", mode=0o700))
        self._base = directory / _NAME
        self._base.mkdir()
        self._config = directory / "models.config"
        self._config.write_text(f"""model_config_list {{ config {{ name: "{_NAME}" base_path: "{self._base}"
            model_platform: "tensorflow" model_version_policy {{ all {{}} }} }} }}""")
        self._begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()
        self._held.close()

    @property
    def pid(self) -> int:
        """The id of the server's process."""
        return self._running().pid

    def verify(self, export_dir: str | Path, *, parent: Path | None = None) -> int:
        """Raise `NotVerified` unless an export is whole and answers as it must; returns the number of probes.

        Args:
            export_dir: of the export.
            parent: directory of the version that is live, with which it is compared.
        """
        from tfrec.client.warmup import WARMUP_FILE
        from tfrec.release.consistency import SAMPLE, check_artefacts  # TensorFlow
        from tfrec.release.shared_graph import shares_graph

        export_dir = Path(export_dir).absolute()
        manifest = read_manifest(export_dir)
        try:
            if not manifest.probes or not (export_dir / WARMUP_FILE).is_file():
                raise ServingError(f"it has no probes or no {WARMUP_FILE}, so it cannot be verified. Export it again.")
            check_files(export_dir, manifest)
            shared = shares_graph(export_dir, manifest, parent)
            expected = check_artefacts(export_dir, manifest, sample=SAMPLE_OF_SHARED if shared else SAMPLE)
            return self._verify(export_dir, manifest, expected, parent=parent, shared=shared)
        except (ServingError, ValueError, KeyError, TypeError) as error:  # the latter three: of a manifest that was tampered with
            raise NotVerified(f"{export_dir}: not verified, so not published. {error}") from error

    def _verify(self, export_dir: Path, manifest: Manifest, expected: Any, *, parent: Path | None, shared: bool) -> int:
        with ExitStack() as linked:
            beside = None if shared or parent is None else self._linked(linked, parent)
            number = self._linked(linked, export_dir)
            if beside is not None and not self._ready(number, beside=beside):
                linked.pop_all().close()
                beside, number = None, self._linked(linked, export_dir)
            if beside is None:
                self._ready(number)
            with self._asking() as of_version:
                if not shared:
                    self._warm_up(of_version(number), export_dir)
                probes = self._ask_probes(of_version(number), manifest)
                self._ask_random(of_version(number), None if beside is None else of_version(beside), manifest, expected,
                                 parent=parent, shared=shared)
                return probes

    def _linked(self, stack: ExitStack, version: Path) -> int:
        """Link a version into the server's base path for as long as `stack` is open, and return the number that it has there."""
        self._number += 1
        link = self._base / str(self._number)
        link.symlink_to(version.absolute())
        stack.callback(link.unlink)
        return self._number

    @contextmanager
    def _asking(self) -> Iterator[Callable[[int], "Predict"]]:
        """Yield what asks a version, by its number."""
        from tfrec.client.client import Client

        with ThreadPoolExecutor(1) as pool, Client(self._address, model=_NAME, timeout=_DAY) as client:
            def of_version(version: int) -> "Predict":
                def predict(signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
                    outputs: dict[str, np.ndarray] = self._while_it_works(
                        pool, lambda: client.predict(signature, inputs, version=version).outputs)
                    return outputs
                return predict

            try:
                yield of_version
            except BaseException:
                if self._patience_lost:
                    self._stop()  # or its thread would wait for an answer for ever
                raise

    def _warm_up(self, ours: "Predict", export_dir: Path) -> None:
        """Ask what a server asks itself before it serves the version."""
        from tfrec.client.tensors import from_proto
        from tfrec.client.warmup import read_warmup

        for number, record in enumerate(read_warmup(export_dir)):
            request = record.predict_log.request
            try:
                ours(request.model_spec.signature_name, {name: from_proto(proto) for name, proto in request.inputs.items()})
            except ServingError as error:
                raise ServingError(f"its warm-up fails at request {number}: {error}") from error

    def _ask_probes(self, ours: "Predict", manifest: Manifest) -> int:
        from tfrec.release.probes import probe_difference

        for number, probe in enumerate(manifest.probes):
            if difference := probe_difference(ours, manifest, probe):
                raise ServingError(f"probe {number} ({probe.signature}): {difference}")
        return len(manifest.probes)

    def _ask_random(self, ours: "Predict", parents: "Predict | None", manifest: Manifest, expected: Any, *, parent: Path | None,
                    shared: bool) -> None:
        from tfrec.release import answer_checks
        from tfrec.release.popularity_files import read_prior

        requests = answer_checks.Requests(expected, ("",))
        recall = min([float(manifest.index.get("recall_target", 1.0)), *manifest.index.get("recall", {}).values()])
        if shared and parent is not None:
            answer_checks.check_recommendations(ours, requests, recall=recall)
            theirs = read_manifest(parent)
            if theirs.window != manifest.window:  # it has learnt, and not only taken other items or popularity
                answer_checks.check_near_probes(manifest.probes, theirs.probes, requests)
            return
        answer_checks.check_answers(ours, expected, requests, recall=recall)
        if parents is not None and parent is not None:
            growth = len(expected.catalogue) / max(1, len(read_prior(parent)[1]))
            answer_checks.check_near(ours, parents, requests)
            answer_checks.check_latency(ours, parents, requests, growth=growth)

    def _begin(self) -> None:
        options = ServeOptions(
            port=0,  # nobody else can reach it: the real server would open a port at every interface
            grpc_socket_path=str(self._base.parent / "grpc"),
            model_config_file=str(self._config),
            max_num_load_retries=0,
            enable_model_warmup=False,  # it is asked for, where it may have changed
            poll_seconds=0.05,  # a second's wait for the export would be a good part of the whole
        )
        self._server = ServerProcess(options, installed=find_model_server()).begin()
        self._address = self._server.address
        self._patience_lost = False

    def _stop(self) -> None:
        if self._server is not None:
            self._server.stop(0)  # nobody else asks it
            self._server = None

    def _ready(self, number: int, *, beside: int | None = None) -> bool:
        """Wait until version `number` is loaded; `ServingError` says why it is not.

        Returns:
            Whether the version `beside` it answers as well. One that cannot be served must not keep out what would replace it, so
            that is only a warning, and the server has to be asked anew without it.
        """
        from tfrec.client.client import Client

        server = self._running()
        patience = Patience(server.pid, self._seconds)
        try:
            server.wait(patience=patience)
            with Client(self._address, model=_NAME) as client:
                while True:
                    server.check()
                    states = {entry.version: entry for entry in client.status()}
                    ours, other = states.get(number), states.get(beside or number)
                    if ours is not None and ours.state == "END":
                        break
                    if other is not None and other.state == "END":
                        return self._without(other.error)
                    if all(entry is not None and entry.state == "AVAILABLE" for entry in (ours, other)):
                        return True
                    patience()
                    time.sleep(0.02)
        except ServingError as error:
            ended = not server.runs()
            self._stop()
            if beside is not None and ended:  # whichever it was that it did not survive
                return self._without(str(error))
            raise
        raise ServingError(f"it does not load: {ours.error}")

    def _running(self) -> ServerProcess:
        """The server, a new one where it has ended."""
        if self._server is not None and not self._server.runs():
            self._stop()
        if self._server is None:
            self._begin()
        assert self._server is not None
        return self._server

    def _without(self, error: str) -> bool:
        log.warning("the live version cannot be served, so nothing is compared with it: %s", error)
        return False

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
    with Verifier(seconds=seconds) as verifier:
        return verifier.verify(export_dir, parent=parent)
