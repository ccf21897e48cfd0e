"""What it costs a gateway to answer queries by their words, without a model server; what docs/search.md shows.

    PYTHONPATH=. python tests/benchmarks/search/without_server.py [--items 1000000]

The words are made up: each item has 60 word pieces and 20 trigrams at most, a few of which most items have, as in any language.
"""
import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from tfrec.config import load_config
from tfrec.gateway.live_popularity import LivePopularity
from tfrec.gateway.routing.word_search import WordSearch
from tfrec.models.lexical.plain_terms import GRAM_BUCKETS
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.models.text_encoder import load_encoder
from tfrec.models.tokenizer.tokenizer import Tokenizer
from tfrec.release.popularity_files import read_prior, write_prior
from tfrec.release.weight_shards import CATALOGUE, key_of
from tfrec.release.words.word_files import read_terms, read_words, write_words

import tensorflow as tf  # isort: skip  after tfrec, which chooses Keras 2

FIRST_WORD = 1996  # of BERT's vocabulary, from where on it is in the order of frequency
QUERIES = ("robots", "inceptoin", "crime in paris", "the lord of the rings the return of the king")


def zipf(n: int, terms: int, of_an_item: int) -> np.ndarray:
    """How many of `n` items have each term."""
    share = 1 / (np.arange(terms) + 2.0)
    return (np.minimum(share * of_an_item / share.sum(), 0.9) * n).astype(np.int64)


def write_version(version: Path, n: int, tokenizer: Tokenizer) -> None:
    rng, pieces = np.random.default_rng(0), tokenizer.n_pieces
    prior = PopularityPrior(n)
    prior.update(rng.integers(n, size=n), np.full(n, int(time.time()) - 86_400))
    write_prior(version, prior, [f"item-{number}" for number in range(n)])
    write_words(version, {"scale": 8.0, "beta": 0.3, "order": rng.permutation(n), "tokenizer": tokenizer.plain()})
    has = np.zeros(pieces + GRAM_BUCKETS, np.int64)
    has[FIRST_WORD:pieces], has[pieces:] = zipf(n, pieces - FIRST_WORD, 60), rng.permutation(zipf(n, GRAM_BUCKETS, 20))
    begin = np.concatenate([[0], np.cumsum(has)])
    lists = [np.sort(rng.choice(n, count, replace=False)).astype(np.int32) for count in has]
    item = np.concatenate([*lists, np.zeros(1, np.int32)])
    state = {"words_begin": begin, "words_item": item, "words_impact": rng.random(len(item), np.float32),
             "words_idf": np.log1p((n - has + 0.5) / (has + 0.5)).astype(np.float32)}
    (version / "variables").mkdir()
    tf.raw_ops.SaveV2(prefix=str(version / "variables" / "variables"), shape_and_slices=[""] * len(state),
                      tensor_names=[key_of(CATALOGUE, name) for name in state], tensors=list(map(tf.constant, state.values())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    n = parser.parse_args().items
    with tempfile.TemporaryDirectory() as directory:
        version = Path(directory)
        write_version(version, n, load_encoder(load_config(None, []).text).tokenizer)
        clock = time.process_time
        began = clock()
        _, ids = read_prior(version)
        print(f"popularity is read in {clock() - began:.3f} s", flush=True)
        began = clock()
        words = read_words(version)
        assert words is not None
        search = WordSearch(words, len(ids))
        print(f"words are mapped in {clock() - began:.3f} s", flush=True)
        began = clock()
        search.match("a")
        print(f"the tokenizer is read in {clock() - began:.3f} s", flush=True)
        live, terms, now = LivePopularity(lambda: version, limit=200), read_terms(words), time.time()
        live.search("a", now, 10, exclude=())
        for query in QUERIES:
            own = {term for kind in terms.of_query(query) for term in kind}
            postings = sum(int(words.begin[term + 1] - words.begin[term]) for term in own)
            took = []
            for _ in range(11):
                began = clock()
                live.search(query, now, 10, exclude=())
                took.append(1e3 * (clock() - began))
            print(f"{query!r}: {np.median(took):.1f} ms, {postings:,} postings", flush=True)


if __name__ == "__main__":
    main()
