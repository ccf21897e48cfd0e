"""The variables that a served graph may read, by names that do not depend on what was traced.

A SavedModel stores them under these names. So the weights of another model of the same shapes can be written for a graph without
tracing that graph again (`release/shared_graph.py`), and compared with those of a checkpoint.
"""
import tensorflow as tf

from tfrec.models.recommender import Recommender
from tfrec.models.text_encoder import TextEncoder

Variables = dict[str, tf.Variable]

ENCODER, TOWERS = "encoder", "towers"  # the two kinds of weights: retraining changes the towers, and never the text encoder


def encoder_weights(encoder: TextEncoder) -> Variables:
    """The variables of a text encoder, by number."""
    return {f"{number}": variable for number, variable in enumerate(encoder.variables)}


def tower_weights(recommender: Recommender) -> Variables:
    """Whatever training changes in the served graph: the towers, the scales between them, the second stage, the bandits' head."""
    model, head = recommender.model, recommender.head
    parts: dict[str, tf.Module] = {"items": model.items, "queries": model.queries}
    if model.context is not None:
        parts["context"] = model.context
    if recommender.ranker is not None:
        parts["ranker"] = recommender.ranker
    layers = {f"{part}_{number}": variable for part, layer in parts.items()
              for number, variable in enumerate(layer.variables)}
    return layers | {
        "log_scale": model.log_scale, "search_scale": model.search_scale, "mean_query": model.mean_query, "beta": model.beta,
        "head_mean": head.mean, "head_factor": head.factor,
    }


def captured(named: Variables, variables: dict[int, tf.Variable]) -> Variables:
    """Those of the `named` that are among `variables`, by the id of each; they are taken out of there.

    A variable that is mirrored on several devices may be there by one of its parts.
    """
    found = {}
    for name, variable in named.items():
        ids = [id(part) for part in (variable, *getattr(variable, "values", ()))]
        if any(key in variables for key in ids):
            found[name] = variable
            for key in ids:
                variables.pop(key, None)
    return found
