"""The variables of a SavedModel in a file for each part, so that versions share the parts that are equal.

    variables/variables.data-00000-of-00003   the text encoder; a retrained version holds a hard link to its parent's
    variables/variables.data-00001-of-00003   the towers; a delta holds a hard link
    variables/variables.data-00002-of-00003   the catalogue: ids, vectors, popularity, tags, lists
    variables/variables.index                 of all, as any server reads it
    variables/encoder.index, towers.index     of one part each, from which the index of a version that shares it is made

A checkpoint may have any number of data files under one index, and the operator that merges those of several writers renames the
data files that it is given. So a version writes the parts that are new and merges them with links to the others. Arrays in asset
files would need an initialiser that reads them, and would be in memory twice while they load.
"""
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfrec.data.staging import link
from tfrec.graph.served_weights import ENCODER, TOWERS

CATALOGUE = "catalogue"  # the attribute of the saved module that holds the catalogue's variables
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"  # of a variable's name in a checkpoint

Tensors = Mapping[str, tf.Tensor | tf.Variable]
_ALL = "variables"


def key_of(part: str, name: str) -> str:
    """The name in the checkpoint of the variable `name` of a part."""
    return f"{part}/{name}{SUFFIX}"


def split(variables: Path) -> None:
    """Split the one data file of a SavedModel's `variables` directory into its parts."""
    prefix = str(variables / _ALL)
    found = tf.train.load_checkpoint(prefix).get_variable_to_dtype_map()
    names: dict[str, list[str]] = {ENCODER: [], TOWERS: [], CATALOGUE: []}
    for name in sorted(found):
        part = name.partition("/")[0]
        names[part if part in names else ENCODER].append(name)  # the description of the graph's objects is with the encoder
    parts = _new_parts(variables)
    for part, own in names.items():
        if own:
            tensors = tf.raw_ops.RestoreV2(prefix=prefix, tensor_names=own, shape_and_slices=[""] * len(own),
                                           dtypes=[found[name] for name in own])
            _write(parts / part, dict(zip(own, tensors, strict=True)))
    shutil.rmtree(variables)
    variables.mkdir()
    _merge(parts, variables, [part for part, own in names.items() if own])


def share(parent: Path, variables: Path, new: Mapping[str, Tensors]) -> None:
    """Write a `variables` directory whose parts are those of the directory `parent`, apart from those that are `new`.

    Args:
        parent: of a version.
        variables: the new directory, which must not exist.
        new: for the name of a part, its variables by name.
    """
    variables.mkdir()
    parts, names = _new_parts(variables), parts_of(parent)
    for number, part in enumerate(names):
        if part in new:
            _write(parts / part, {key_of(part, name): tf.convert_to_tensor(value) for name, value in new[part].items()})
        else:
            shutil.copy2(parent / f"{part}.index", parts / f"{part}.index")
            link(str(parent / data_file(number, len(names))), str(parts / f"{part}.data-00000-of-00001"))
    _merge(parts, variables, names)


def parts_of(variables: Path) -> list[str]:
    """The parts of a version, in the order of their files; the catalogue is the last one."""
    return [*sorted(path.stem for path in variables.glob("*.index") if path.stem != _ALL), CATALOGUE]


def data_file(number: int, parts: int) -> str:
    """The name of the file of a part."""
    return f"{_ALL}.data-{number:05}-of-{parts:05}"


def stored(variables: Path, part: str) -> dict[str, tuple[tf.DType, list[int]]]:
    """The type and the shape of each variable of a part of a version, by name."""
    reader = tf.train.load_checkpoint(str(variables / _ALL))
    shapes = reader.get_variable_to_shape_map()
    return {
        name.removeprefix(f"{part}/").removesuffix(SUFFIX): (dtype, shapes[name])
        for name, dtype in reader.get_variable_to_dtype_map().items() if name.startswith(f"{part}/")
    }


def read_catalogue_array(variables: Path, name: str) -> np.ndarray:
    """The value of the catalogue's variable `name` in a version."""
    return np.asarray(tf.train.load_checkpoint(str(variables / _ALL)).get_tensor(key_of(CATALOGUE, name)))


def _new_parts(variables: Path) -> Path:
    parts = variables.with_name(f".{variables.name}.parts")
    parts.mkdir()
    return parts


def _write(prefix: Path, tensors: Mapping[str, tf.Tensor]) -> None:
    tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=list(tensors), shape_and_slices=[""] * len(tensors),
                      tensors=list(tensors.values()))


def _merge(parts: Path, variables: Path, names: list[str]) -> None:
    for part in names:
        if part != CATALOGUE:
            shutil.copy2(parts / f"{part}.index", variables / f"{part}.index")
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=[str(parts / part) for part in names],
                                  destination_prefix=str(variables / _ALL), delete_old_dirs=False)
    shutil.rmtree(parts)
