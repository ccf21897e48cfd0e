"""A version is published only after a fresh server gave the answers that the model gave in memory.

The export is loaded by the embedded server in a process of its own, warm-up included, and asked its manifest's probes over gRPC.
Item ids must be equal and numbers to 1e-4; two items may change places where their scores differ by no more than that.
"""
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from tfrec.errors import ServingError
from tfrec.serving.integrity import check_files
from tfrec.serving.manifest import Manifest, Probe, read_manifest
from tfrec.serving.process import ServerProcess, free_port
from tfrec.serving.server import ServeOptions

if TYPE_CHECKING:
    from tfrec.serving.client import Client

TOLERANCE = 1e-4
ASKED_OF_DELTAS = "recommend"  # the signature whose answers show all that a delta may change
_NAME = "verify"


class Verifier:
    """A fresh server that has not been shown anything yet; started before the export is written, it imports TensorFlow meanwhile.

        with Verifier() as verifier:
            verifier.verify(export(...))
    """

    def __init__(self, *, seconds: float = 120.0, signatures: Collection[str] | None = None) -> None:
        """With `signatures` only their probes are asked, and the warm-up is left out."""
        self._seconds = seconds  # for the server to load the export and to answer
        self._signatures = signatures
        self._base = tempfile.TemporaryDirectory(prefix="tfrec-verify-")
        self._server = ServerProcess(
            ServeOptions(
                port=free_port(),
                model_name=_NAME,
                model_base_path=self._base.name,
                max_num_load_retries=0,
                enable_model_warmup=signatures is None,
                poll_seconds=0.05,  # a second's wait for the export would be a good part of the whole
            ),
            start_seconds=seconds,
        )

    @classmethod
    def of_delta(cls) -> "Verifier":
        """For a version whose graph and weights were verified as its parent's."""
        return cls(signatures=[ASKED_OF_DELTAS])

    def __enter__(self) -> "Verifier":
        self._server.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.stop(0)  # nobody else asks it
        self._base.cleanup()

    def verify(self, export_dir: str | Path) -> int:
        """Raise `ServingError` unless the server answers every probe of `export_dir` in time; returns their number. Once only."""
        from tfrec.serving.client import Client  # TensorFlow
        from tfrec.serving.warmup import WARMUP_FILE

        export_dir = Path(export_dir).absolute()
        manifest = read_manifest(export_dir)
        if not manifest.probes or not (export_dir / WARMUP_FILE).is_file():
            raise ServingError(f"{export_dir}: has no probes or no {WARMUP_FILE}, so it cannot be verified. Export it again.")
        try:
            check_files(export_dir, manifest)
        except ServingError as error:
            raise ServingError(f"{error} Not published.") from error
        wanted = self._signatures or manifest.signatures
        asked = [(number, probe) for number, probe in enumerate(manifest.probes) if probe.signature in wanted]
        deadline = time.monotonic() + self._seconds
        (Path(self._base.name) / "1").symlink_to(export_dir)
        try:
            self._server.wait()
            with Client(self._server.address, model=_NAME) as client:
                for number, probe in asked:
                    client.timeout = max(0.001, deadline - time.monotonic())
                    difference = _difference(client, manifest, probe)
                    if difference:
                        raise ServingError(f"probe {number} ({probe.signature}): {difference}")
        except ServingError as error:
            raise ServingError(f"{export_dir}: not verified, so not published. {error}") from error
        return len(asked)


def verify(export_dir: str | Path, *, seconds: float = 120.0) -> int:
    """Raise `ServingError` unless a fresh server answers every probe of `export_dir` within `seconds`; returns their number."""
    with Verifier(seconds=seconds) as verifier:
        return verifier.verify(export_dir)


def _difference(client: "Client", manifest: Manifest, probe: Probe) -> str:
    """What a server's answer to `probe` has that it should not have, empty when nothing."""
    from tfrec.serving.tensors import from_values

    signature = manifest.signatures[probe.signature]
    inputs = {name: from_values(values, signature.inputs[name].dtype) for name, values in probe.inputs.items()}
    got = client.predict(probe.signature, inputs).outputs
    expected = {name: from_values(values, signature.outputs[name].dtype) for name, values in probe.outputs.items()}
    if got.keys() != expected.keys():
        return f"expected the outputs {sorted(expected)}, got {sorted(got)}"
    for name, array in expected.items():
        if got[name].shape != array.shape:
            return f"{name}: expected the shape {array.shape}, got {got[name].shape}"
        wrong = _wrong(array, got[name], scores=expected.get("scores") if name == "items" else None)
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            first = f"{name}{list(place)}: expected {array.item(place)!r}, got {got[name].item(place)!r}"
            return f"{first} ({wrong.sum()} of {wrong.size} differ)"
    return ""


def _wrong(expected: np.ndarray, got: np.ndarray, *, scores: np.ndarray | None) -> np.ndarray:
    """Where two arrays of one shape disagree; with `scores`, items that may change places by a tie do not."""
    if expected.dtype != object:
        return np.asarray(~np.isclose(got, expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
    wrong = np.asarray(expected != got)
    if scores is not None and scores.shape == expected.shape:
        for row, place in np.argwhere(wrong):
            found = np.flatnonzero(expected[row] == got[row, place])
            other = found[0] if len(found) else -1  # an item from beyond the list ties with its last
            wrong[row, place] = not np.isclose(scores[row, other], scores[row, place], rtol=TOLERANCE, atol=TOLERANCE)
    return wrong
