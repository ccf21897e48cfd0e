"""The variables of a SavedModel in two files, so that a version with another catalogue shares the weights of its parent.

    variables/variables.data-00000-of-00002   the weights; deltas of a version hold hard links to it
    variables/variables.data-00001-of-00002   the catalogue: ids, vectors, popularity, tags, lists
    variables/variables.index                 of both, as any server reads it
    variables/weights.index                   of the first alone, from which the index of a delta is made

A checkpoint may have any number of data files under one index, and the operator that merges those of several writers renames the
data files that it is given. So a delta writes its own file and merges it with a link to the weights. Arrays in asset files would
need an initialiser that reads them, and would be in memory twice while they load.
"""
import shutil
from pathlib import Path

import tensorflow as tf

from tfrec.data.staging import link

CATALOGUE = "catalogue"  # the attribute of the saved module that holds the catalogue's variables
WEIGHTS_INDEX = "weights.index"

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"  # of a variable's name in a checkpoint
_DATA = "variables.data-00000-of-00002"


def split(variables: Path) -> None:
    """Split the one data file of a SavedModel's `variables` directory into weights and catalogue."""
    prefix = str(variables / "variables")
    found = tf.train.load_checkpoint(prefix).get_variable_to_dtype_map()
    of_catalogue = {name for name in found if name.startswith(f"{CATALOGUE}/")}
    parts = variables.with_name(f".{variables.name}.parts")
    parts.mkdir()
    for part, names in (("weights", found.keys() - of_catalogue), ("catalogue", of_catalogue)):
        ordered = sorted(names)
        everything = [""] * len(ordered)
        tensors = tf.raw_ops.RestoreV2(prefix=prefix, tensor_names=ordered, shape_and_slices=everything,
                                       dtypes=[found[name] for name in ordered])
        _write(parts / part, dict(zip(ordered, tensors, strict=True)))
    shutil.rmtree(variables)
    variables.mkdir()
    shutil.copy2(parts / "weights.index", variables / WEIGHTS_INDEX)
    _merge(parts, variables)


def replace_catalogue(parent: Path, variables: Path, state: dict[str, tf.Variable]) -> None:
    """Write a new `variables` directory with the weights of the directory `parent` and the catalogue `state`."""
    variables.mkdir()
    link(str(parent / WEIGHTS_INDEX), str(variables / WEIGHTS_INDEX))
    parts = variables.with_name(f".{variables.name}.parts")
    parts.mkdir()
    shutil.copy2(parent / WEIGHTS_INDEX, parts / "weights.index")
    link(str(parent / _DATA), str(parts / "weights.data-00000-of-00001"))
    _write(parts / "catalogue", {f"{CATALOGUE}/{name}{SUFFIX}": tf.convert_to_tensor(value) for name, value in state.items()})
    _merge(parts, variables)


def read_catalogue_array(variables: Path, name: str) -> tf.Tensor:
    """The value of the catalogue's variable `name` in a version."""
    return tf.train.load_checkpoint(str(variables / "variables")).get_tensor(f"{CATALOGUE}/{name}{SUFFIX}")


def _write(prefix: Path, tensors: dict[str, tf.Tensor]) -> None:
    tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=list(tensors), shape_and_slices=[""] * len(tensors),
                      tensors=list(tensors.values()))


def _merge(parts: Path, variables: Path) -> None:
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=[str(parts / "weights"), str(parts / "catalogue")],
                                  destination_prefix=str(variables / "variables"), delete_old_dirs=False)
    shutil.rmtree(parts)
