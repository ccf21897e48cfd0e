"""Retrains that are killed: `python killed.py CONFIG.toml NOW`, and on standard input a line `before NAME` or `after NAME` each.

Each retrain dies by SIGKILL before or after its first call of the function NAME. TensorFlow is imported once, and used only by
the forked children, one after the other. Verification passes.
"""
import os
import pkgutil
import signal
import sys
from unittest import mock

from tfrec.config import Config, load_config
from tfrec.retrain import retrain

# by their places beside this file: an installed package may be called `tests`, too; and after tfrec, which chooses Keras 2
from eagerly import eagerly  # isort: skip
from graph import tiny_recommender as tiny  # isort: skip


def retrain_until(config: Config, when: str, name: str, *, now: int) -> None:
    """Retrain, operator by operator, and die."""
    real = pkgutil.resolve_name(name)

    def deadly(*words: object, **named: object) -> None:
        if when == "after":
            real(*words, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    with eagerly(), tiny.exporting("recommend"), mock.patch("tfrec.retrain.session.Verifier"), mock.patch(name, deadly):
        retrain(config, now=now)


if __name__ == "__main__":
    config, now = load_config(sys.argv[1]), int(sys.argv[2])
    for line in sys.stdin.read().splitlines():
        child = os.fork()
        if not child:
            retrain_until(config, *line.split(), now=now)
            os._exit(0)
        ended = os.waitpid(child, 0)[1]
        if ended != signal.SIGKILL or not (config.run / "retrain" / "intent.json").is_file():
            sys.exit(f"{line}: ended with {ended} instead of a kill, or left no intent")
