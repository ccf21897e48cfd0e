"""Fits requests to the version that is asked: not every version has all inputs.

One that was exported before a signature had numeric bounds, diversity or caps lacks these (`contract.OPTIONAL`); one of a model
without features lacks those of a context (`contract.CONTEXT`). TensorFlow Serving refuses a request that lacks an input of its
signature or has another one. Nothing is asked beforehand: a refused request makes the client look up which inputs the version
has, and send it again with these. The next requests to this version fit from the start. When it is replaced, the next refusal
shows that.
"""
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from tfrec.client.contract import CONTEXT, OPTIONAL, READS_CONTEXT
from tfrec.client.inputs import context_inputs
from tfrec.client.padding import Arrays
from tfrec.client.protos import get_model_metadata_pb2
from tfrec.client.request_errors import InputNotServed, RequestFailed
from tfrec.client.slate_options import unspecified

Asked = tuple[int | None, str, str]  # version, label, signature


class VersionInputs:
    """The inputs that the versions of a server are known to have. Safe to share between threads."""

    def __init__(self) -> None:
        self._known: dict[Asked, frozenset[str]] = {}

    def fitted(self, asked: Asked, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """`inputs` as the version takes them, as far as that is known; what it lacks and is asked for stays, to be refused."""
        known = self._known.get(asked)
        return dict(inputs) if known is None else _fit(inputs, known)

    def refused(
        self, asked: Asked, sent: Arrays, inputs: Mapping[str, np.ndarray], known: Collection[str], error: RequestFailed
    ) -> Arrays:
        """The inputs to send after `sent` was refused with `error` by a version that has the inputs `known`.

        Raises:
            InputNotServed: the version lacks an input that asks for something.
            RequestFailed: the error, where the inputs were right.
        """
        lacking = OPTIONAL & inputs.keys() - frozenset(known)
        if wanted := sorted(name for name in lacking if not unspecified(name, inputs[name])):
            raise InputNotServed(f"{error} The version was exported before it had {', '.join(wanted)}. Export the model again.",
                                 code=error.code) from error
        self._known[asked] = frozenset(known)
        fitting = _fit(inputs, known)
        if fitting.keys() == sent.keys():
            raise error
        return fitting


def may_differ(signature: str, inputs: Collection[str]) -> bool:
    """Whether versions differ in the inputs of a request."""
    return signature in READS_CONTEXT or not OPTIONAL.isdisjoint(inputs)


def inputs_of(metadata: Any, signature: str) -> frozenset[str]:
    """The names of the inputs of a signature, by a server's answer to a request for metadata."""
    found = get_model_metadata_pb2.SignatureDefMap()
    metadata.metadata["signature_def"].Unpack(found)
    return frozenset(found.signature_def[signature].inputs) if signature in found.signature_def else frozenset()


def _fit(inputs: Mapping[str, np.ndarray], known: Collection[str]) -> Arrays:
    """Without a context that is not read, with one that is and was not given, and without what is lacking and not asked for."""
    fitting = {name: array for name, array in inputs.items()
               if name in known or not (name in CONTEXT or (name in OPTIONAL and unspecified(name, array)))}
    if CONTEXT.keys() <= set(known) and not CONTEXT.keys() <= inputs.keys():
        fitting |= context_inputs(len(inputs["history"]))
    return fitting
