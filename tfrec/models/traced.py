"""Functions that were traced with the variables of a model, kept with it: a tracing costs as much as many calls."""
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import tensorflow as tf

T = TypeVar("T")


class Traced:
    """The traced functions of a model; Keras does not look into it, so it is in no checkpoint."""

    def __init__(self) -> None:
        self._functions: dict[Hashable, Callable[..., Any]] = {}
        self._kept: dict[Hashable, Any] = {}

    def keep(self, key: Hashable, new: T) -> T:
        """What was kept under that key before, or else `new`, which is kept from now on."""
        kept: T = self._kept.setdefault(key, new)
        return kept

    def of(self, key: Hashable, function: Callable[..., Any], signature: list[Any]) -> Callable[..., Any]:
        """`function`, traced for the `signature`, or what was traced under that key before.

        Args:
            key: has all that the trace has as constants.
            function: reads the model's variables, and nothing else that changes.
            signature: open shapes, so that it is traced once.
        """
        if key not in self._functions:
            self._functions[key] = tf.function(function, input_signature=signature, autograph=False)
        return self._functions[key]
