"""Run by test_replicas.py in a process of its own, since a CPU can only be divided before TensorFlow starts.

Prints, as JSON, what one device and two replicas make of the same batches.
"""
import importlib.util
import json
import sys
from pathlib import Path

import tfrec  # noqa: F401  before TensorFlow: it chooses Keras 2

import numpy as np  # isort: skip
import tensorflow as tf  # isort: skip

# each of its graphs runs once or twice: to optimise it takes longer than it saves
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
halves = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)

# by path: an installed package may be called `tests`, too
spec = importlib.util.spec_from_file_location("world", Path(__file__).parent.parent / "models" / "world.py")
world = importlib.util.module_from_spec(spec)
sys.modules["world"] = world
spec.loader.exec_module(world)

from tfrec.config import RetrainConfig  # noqa: E402
from tfrec.models.scorer import Scorer  # noqa: E402
from tfrec.training.loop import Trainer, optimiser  # noqa: E402
from tfrec.training.slates.trainer import PolicyScorer, SlateTrainer  # noqa: E402


def measure(strategy: tf.distribute.Strategy, negatives: int) -> dict[str, list[float]]:
    """Loss with everything in; then weights and scores after training on what does not differ between replicas by design."""
    inter = world.interactions(world.catalogue(40), users=20)
    settings = world.config(Path("unused"), dropout=0.0, id_dropout=0.0, layers=1, training={"negatives": negatives})
    with strategy.scope():
        made = world.recommender(settings, stir=False)
        trainer = Trainer(made, inter, inter.weight > 0, prior_weights=made.prior.weights)
        optimizer = optimiser(settings, learning_rate=0.01)
        optimizer.build(made.model.trainable_variables)  # left to the first step, it would be traced twice
        made.model.compile(optimizer=optimizer)
        batches = trainer.batches.epoch(0, 0)
        unknown = batches.map(lambda b: {**b, "gap": tf.fill(tf.shape(b["gap"]), tf.constant(-1, tf.int64))})
        loss = made.model.evaluate(batches.take(1), verbose=0, return_dict=True)["loss"]
        made.model.search_weight = 0.0  # its noise is each replica's own
        made.model.fit(unknown.with_options(options()), verbose=0)
    weights = [float(tf.reduce_sum(w * tf.cast(tf.reshape(tf.range(tf.size(w)) % 7 - 3, w.shape), tf.float32)))
               for w in (*made.model.trainable_variables, made.model.mean_query, *made.model.average.values)]
    made.model.average.swap()
    made.model.clear_residuals(np.array([1]))
    scores = Scorer(made, inter, counted=0)(np.array([len(inter) - 1]))
    return {"loss": [float(loss)], "weights": weights, "scores": scores[0].tolist(), "steps": [int(made.model.steps.numpy())]}


def measure_slates(strategy: tf.distribute.Strategy) -> dict[str, list[float]]:
    """Weights after an epoch on slates, by objectives of each kind."""
    settings = world.config(Path("unused"), layers=0)
    objectives = {"reinforce": 1.0, "sarsa": 1.0, "entire_space": 1.0}
    settings = settings.model_copy(update={"retrain": RetrainConfig(objective=objectives, slate_batch=16)})
    with strategy.scope():
        made = world.recommender(settings)
        trainer = SlateTrainer(made, world.slates(40), PolicyScorer(made, world.LOG_P))
        trainer.run(optimiser(settings, learning_rate=0.01), epochs=range(1))
    return {"weights": [float(tf.reduce_sum(tf.abs(w))) for w in made.model.trainable_variables],
            "steps": [int(made.model.steps.numpy())]}


def options() -> tf.data.Options:
    made = tf.data.Options()
    made.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return made


negatives = int(sys.argv[1])
found = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])):
    # what one device makes of a few batches needs no graph; replicas train in one, as they do for a user
    tf.config.run_functions_eagerly(strategy.num_replicas_in_sync == 1)
    found.append((measure(strategy, negatives), measure_slates(strategy)))
(one, one_slates), (two, two_slates) = found
print(json.dumps({"one": one, "two": two, "slates": [one_slates, two_slates]}))
