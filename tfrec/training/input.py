"""Windows in, batches of one fixed shape out, in an order that is a function of (seed, epoch).

The last batch is filled up with windows of weight 0, so that no window is dropped and nothing is compiled twice.
"""
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.data.sequences import Windows


def batches(windows: Windows, codes: npt.NDArray[np.int32], snapshot: npt.NDArray[np.int32], *, batch_size: int, seed: int,
            epoch: int) -> tf.data.Dataset:
    """Batches of dictionaries of arrays `[batch_size, length]`.

    Args:
        windows: of behaviour.
        codes: the model's action code of each action code in the windows.
        snapshot: `[events]`, the newest prior snapshot before each event.
        batch_size: over all replicas.
        seed, epoch: of the order.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(windows))
    short = -len(order) % batch_size
    shuffled = windows.take(np.concatenate([order, np.resize(order, short)]))
    weight = shuffled.weight.copy()
    weight[len(order) :] = 0
    arrays = {
        "item": shuffled.item,
        "action": codes[shuffled.action],
        "gap": shuffled.gap,
        "target": shuffled.target,
        "read_at": shuffled.read_at,
        "weight": weight,
        "snapshot": snapshot[shuffled.event],
    }
    data = tf.data.Dataset.from_tensor_slices(arrays).batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return data.with_options(options)
