"""What is built once for all workers of a run of the tests: whoever comes first builds it, the others wait for it."""
import fcntl
from collections.abc import Callable
from pathlib import Path


def once(path: Path, build: Callable[[Path], object]) -> Path:
    """`path`, built by `build(path)` unless another process has done so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    built = path.with_name(f"{path.name}.built")
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            build(path)
            built.touch()
    return path
