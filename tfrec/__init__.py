"""Search and recommendation that learns from its own feedback, on TensorFlow.

The public names load when they are first used, so `import tfrec` is quick and imports no TensorFlow. It does choose Keras 2 for
the process: tensorflow-recommenders needs it, and TensorFlow reads the choice only once, when it is imported.
"""
import importlib
import os
import sys
from typing import Any

from tfrec.errors import UsageError

__version__ = "0.1.0"

_HOMES = {
    "Config": "tfrec.config",
    "load_config": "tfrec.config",
    "ConfigError": "tfrec.errors",
    "DataError": "tfrec.errors",
    "ModelError": "tfrec.errors",
    "ServingError": "tfrec.errors",
    "TfrecError": "tfrec.errors",
    "UsageError": "tfrec.errors",
    "Catalogue": "tfrec.data.items.catalogue",
    "read_catalogue": "tfrec.data.items.catalogue",
    "Interactions": "tfrec.data.behaviour.interactions",
    "read_interactions": "tfrec.data.behaviour.interaction_files",
    "FeedbackLog": "tfrec.data.feedback_log.log",
    "LogWriter": "tfrec.data.feedback_log.writer",
    "Impression": "tfrec.data.records",
    "Item": "tfrec.data.records",
    "Outcome": "tfrec.data.records",
    "load_movielens": "tfrec.data.behaviour.movielens",
    "Recommender": "tfrec.models.recommender",
    "train": "tfrec.training.train",
    "Pairs": "tfrec.data.examples.pairs",
    "read_queries": "tfrec.data.examples.pairs",
    "pretrain": "tfrec.training.encoder.pretrain",
    "tune": "tfrec.training.encoder.tune",
    "prequential": "tfrec.evaluation.prequential",
    "Client": "tfrec.client.client",
    "export": "tfrec.release.export",
    "publish": "tfrec.release.publish",
    "rollback": "tfrec.release.publish",
}
__all__ = ["__version__", *sorted(_HOMES)]  # `retrain` and `demo` are packages here, and the functions are in them


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tfrec' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _choose_keras_2() -> None:
    """Set TF_USE_LEGACY_KERAS when it is unset; raise when this process already has Keras 3 behind `tf.keras`."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None:
        keras = str(getattr(getattr(tensorflow, "keras", None), "__version__", ""))
        if keras.startswith("3"):
            raise UsageError(
                f"tfrec needs Keras 2 behind tf.keras, but TensorFlow was already imported with Keras {keras}. Import tfrec "
                "first, or set TF_USE_LEGACY_KERAS=1 before Python starts (in a notebook: restart, then `import tfrec` first)."
            )
    choice = os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    if choice not in ("1", "true", "True"):  # the three words that TensorFlow takes for yes
        raise UsageError(f"tfrec needs Keras 2 behind tf.keras, but TF_USE_LEGACY_KERAS is {choice!r}. Unset it, or set it to 1.")


_choose_keras_2()
