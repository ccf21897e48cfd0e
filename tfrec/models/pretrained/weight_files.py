"""The weights of a checkpoint: the arrays in one or several safetensors files, by their names within the encoder.

Safetensors files hold arrays and no code. Half precision is read as single precision. An array that does not hold finite
floating-point numbers is refused by name: the codes of a quantised model would load as if they were weights.
"""
from pathlib import Path

import numpy as np

from tfrec.errors import ModelError
from tfrec.models.pretrained.json_files import read_json

WEIGHTS_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
FLOATS = ("float16", "bfloat16", "float32", "float64")
WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"  # every family has it; what comes before it is the prefix of all names


def read_weights(directory: Path) -> dict[str, np.ndarray]:
    """Read the arrays by their names within the encoder, such as `embeddings.word_embeddings.weight`; types are not checked.

    Raises:
        ModelError: a file is missing or broken, or the checkpoint holds several encoders.
    """
    found: dict[str, np.ndarray] = {}
    for path in _files(directory):
        arrays = read_arrays(path)
        if twice := sorted(found.keys() & arrays.keys()):
            raise ModelError(f"{path}: expected each array in one file, found {twice[0]!r} in an earlier one, too.")
        found |= arrays
    prefixes = {name.removesuffix(WORD_EMBEDDINGS) for name in found if name.endswith(WORD_EMBEDDINGS)}
    if len(prefixes) > 1:
        raise ModelError(f"{directory}: expected the weights of one encoder, found several: {', '.join(sorted(prefixes))}. "
                         "Save the one that is meant in a directory of its own.")
    prefix = next(iter(prefixes), "")
    return {_current_name(name.removeprefix(prefix)): array for name, array in found.items()}


def _files(directory: Path) -> list[Path]:
    if (directory / WEIGHTS_FILE).is_file():
        return [directory / WEIGHTS_FILE]
    if not (directory / INDEX_FILE).is_file():
        present = ", ".join(sorted(p.name for p in directory.iterdir()))
        raise ModelError(f"{directory}: expected {WEIGHTS_FILE} or {INDEX_FILE}, found {present}. "
                         "Convert a pytorch_model.bin with transformers' `save_pretrained(safe_serialization=True)`.")
    shards = read_json(directory / INDEX_FILE).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise ModelError(f"{directory / INDEX_FILE}: expected a weight_map that names a file for each array. Download it again.")
    names = sorted(set(shards.values()))
    if outside := [name for name in names if Path(name).name != name]:
        raise ModelError(f"{directory / INDEX_FILE}: expected files beside it, got {outside[0]!r}.")
    if missing := [name for name in names if not (directory / name).is_file()]:
        raise ModelError(f"{directory / INDEX_FILE}: expected {', '.join(missing)} beside it, found nothing there. Download the "
                         "checkpoint again.")
    return [directory / name for name in names]


def weights_file(directory: Path) -> Path:
    """Return the file that error messages about the weights in `directory` name."""
    return directory / (WEIGHTS_FILE if (directory / WEIGHTS_FILE).is_file() else INDEX_FILE)


def is_weights(path: Path, directory: Path) -> bool:
    """Return whether `path` is one of the weight files of the encoder in `directory`."""
    return path.parent == directory and (path.suffix == ".safetensors" or path.name == INDEX_FILE)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a safetensors file.

    Raises:
        ModelError: the file is broken, or has an array of a type that numpy does not know.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file
    try:
        arrays: dict[str, np.ndarray] = load_file(path)
    except (SafetensorError, OSError) as e:
        raise ModelError(f"{path}: not a readable safetensors file ({e}). Download the checkpoint again.") from e
    except (KeyError, TypeError, ValueError) as e:  # a type that numpy does not have, such as 8-bit floats
        raise ModelError(f"{path}: an array is of a type that is not supported ({e}). Choose weights of one of "
                         f"{', '.join(FLOATS)}.") from e
    return arrays


def float32_array(name: str, array: np.ndarray, shape: tuple[int, ...], path: Path | str) -> np.ndarray:
    """Check an array, and convert it to float32.

    Args:
        name: of the array.
        array: as it was read.
        shape: that the configuration says.
        path: of its file, for errors.

    Raises:
        ModelError: the array has another shape, or does not hold finite floating-point numbers.
    """
    if array.dtype.name not in FLOATS:
        raise ModelError(f"{path}: expected {name!r} to hold {', '.join(FLOATS)}, got {array.dtype.name}, as quantised "
                         "checkpoints do. Choose the checkpoint that it was made from.")
    if array.shape != shape:
        raise ModelError(f"{path}: expected {name!r} of shape {list(shape)}, as config.json has it, got {list(array.shape)}. "
                         "The files are of different checkpoints.")
    single = array.astype(np.float32, copy=False)
    if not np.isfinite(single).all():
        raise ModelError(f"{path}: expected finite numbers, found NaN or infinity in {name!r}. Its training failed: choose "
                         "another checkpoint.")
    return single


def _current_name(name: str) -> str:
    """Rename the parts of a layer norm as PyTorch has them; bert-base still has TensorFlow's names."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
