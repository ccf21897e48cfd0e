"""Whether a server answers a probe as the model in memory did: equal item ids, and numbers that are equal to 1e-4.

Two items may swap positions where their scores differ by no more than that: another kernel rounds otherwise.
"""
from collections.abc import Callable, Mapping

import numpy as np

from tfrec.client.contract import Probe
from tfrec.client.tensors import from_values
from tfrec.release.manifest import Manifest

TOLERANCE = 1e-4

Predict = Callable[[str, Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def probe_difference(predict: Predict, manifest: Manifest, probe: Probe) -> str:
    """The first thing in which a server's answer to `probe` differs from the manifest's, in words; "" when they agree."""
    signature = manifest.signatures[probe.signature]
    inputs = {name: from_values(values, signature.inputs[name].dtype) for name, values in probe.inputs.items()}
    got = predict(probe.signature, inputs)
    expected = {name: from_values(values, signature.outputs[name].dtype) for name, values in probe.outputs.items()}
    if got.keys() != expected.keys():
        return f"expected the outputs {sorted(expected)}, got {sorted(got)}"
    for name, array in expected.items():
        if got[name].shape != array.shape:
            return f"{name}: expected the shape {array.shape}, got {got[name].shape}"
        wrong = differing(array, got[name], scores=expected.get("scores") if name == "items" else None)
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            first = f"{name}{list(at)}: expected {array.item(at)!r}, got {got[name].item(at)!r}"
            return f"{first} ({wrong.sum()} of {wrong.size} differ)"
    return ""


def differing(expected: np.ndarray, got: np.ndarray, *, scores: np.ndarray | None) -> np.ndarray:
    """Where two arrays of one shape disagree; with `scores`, items whose scores tie may swap positions."""
    if expected.dtype != object:
        return np.asarray(~np.isclose(got, expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
    wrong = np.asarray(expected != got)
    if scores is not None and scores.shape == expected.shape:
        for row, position in np.argwhere(wrong):
            found = np.flatnonzero(expected[row] == got[row, position])
            other = found[0] if len(found) else -1  # an item from behind the last one ties with it
            wrong[row, position] = not np.isclose(scores[row, other], scores[row, position], rtol=TOLERANCE, atol=TOLERANCE)
    return wrong
