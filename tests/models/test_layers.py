"""Every layer class of the models: its configuration makes an equal layer. A class that is not listed here fails the test."""
import importlib
import inspect
import json
import pkgutil

import pytest
import tensorflow as tf

import tfrec.models
from tfrec.models.bert.bert import Bert, BertLayer
from tfrec.models.bert.peft_layers import Adapted, LowRank, Prefix
from tfrec.models.context.context_tower import ContextTower
from tfrec.models.item_tower import ItemTower
from tfrec.models.query_tower import CausalBlock, QueryTower
from tfrec.models.ranking.ranker import Ranker
from tfrec.models.retrieval_task import CorrectedRetrieval
from tfrec.models.two_tower import TwoTower

LAYERS = {
    Bert: {"vocabulary": 9, "width": 4, "heads": 2, "inner": 6, "layers": 2, "positions": 7, "epsilon": 1e-6, "pad": 1},
    BertLayer: {"width": 4, "heads": 2, "inner": 6, "epsilon": 1e-6},
    CausalBlock: {"dim": 4, "heads": 2, "rate": 0.3},
    ContextTower: {"dim": 4, "rows": [3, 2], "rate": 0.3},
    CorrectedRetrieval: {},
    ItemTower: {"dim": 4, "text_width": 5, "feature_width": 3, "slots": 6, "id_dropout": 0.25},
    Prefix: {"length": 3, "heads": 2, "size": 4},
    Ranker: {"dim": 4, "feature_width": 3, "context_rows": [3, 2], "chains": [[0], [1, 0]], "crosses": 1, "hidden": [6],
             "rate": 0.3},
    QueryTower: {"dim": 4, "layers": 2, "heads": 2, "length": 3, "actions": 5, "rate": 0.3},
}


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_configuration_round_trip(kind):
    layer = kind(name="mine", **LAYERS[kind])
    config = json.loads(json.dumps(layer.get_config()))
    assert LAYERS[kind].items() <= config.items()
    again = kind.from_config(config)
    assert again.get_config() == layer.get_config()
    assert (again.name, [w.shape for w in again.weights]) == ("mine", [w.shape for w in layer.weights])


def test_every_layer_is_listed():
    found = set()
    for module in pkgutil.walk_packages(tfrec.models.__path__, "tfrec.models."):
        for _, thing in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if thing.__module__ == module.name and issubclass(thing, tf.keras.layers.Layer):
                found.add(thing)
    # a model is kept by its checkpoint and not by a configuration, and what is put around a layer by that of the encoder
    assert found - {TwoTower, Adapted, LowRank} == set(LAYERS)
