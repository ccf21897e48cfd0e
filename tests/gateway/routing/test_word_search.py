"""A query that no model server answers is answered by its words, in the ranking of the graph."""
import json
import logging
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from tests.gateway.routing.words import Searched
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.gateway.first_seen import FirstSeen
from tfrec.gateway.live_popularity import LivePopularity
from tfrec.release.words.word_files import ORDER_FILE, TOKENIZER_FILE, WORDS_FILE

NOW = 10**6
TITLES = ["heat", "the inception", "interstellar", "memento", "the thing", "电影 人", "電 heat 2", "the the", "", "a e i o u"]
PLOT = "the theing and the other theing of a long plot that is no name at all "
FILMS = Catalogue([Item(id=f"f{n}", text={"title": title, "plot": PLOT + title[:3]}, available=n != 4)
                   for n, title in enumerate(TITLES)])
QUERIES = st.one_of(
    st.sampled_from(TITLES), st.sampled_from(["inceptoin", "intersteler", "memetno", "HEAT!", "film 电影", "the a of", "🙂",
                                              "the", "thing", "the thing " * 1000, "q" * 10_000,
                                              "人" * 10_000, "\0", "  ", "heat\0zzz"]),
    st.text("abcehint 人电影🙂,é", min_size=1, max_size=20))


@pytest.fixture(scope="module", params=["in order", "in lists"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    order = np.random.default_rng(1).permutation([*range(len(FILMS)), -1, -1, -1])
    return Searched(FILMS, tmp_path_factory.mktemp("words"), order=order if request.param == "in lists" else None)


@cache
def live(version: Path) -> LivePopularity:
    return LivePopularity(lambda: version, limit=5)


def compare(world: Searched, popularity: LivePopularity, query: str, k: int, exclude: list[str]) -> None:
    found = popularity.search(query, NOW, k, exclude=exclude)
    ids, scores, has_words = world.by_graph(query, exclude)
    assert (found is not None) == has_words
    if found is not None:
        assert len(set(found.ids)) == len(found.ids) == min(k, len(ids))
        assert_allclose(found.scores, scores[:k], rtol=1e-4, atol=1e-4)
        of = dict(zip(ids, scores, strict=True))
        assert_allclose([of[item] for item in found.ids], scores[:k], rtol=1e-4, atol=1e-4)  # equal scores may change places


@settings(deadline=None, max_examples=35)
@given(query=QUERIES, k=st.integers(1, 12), exclude=st.lists(st.sampled_from([*FILMS.ids.tolist(), "unknown"]), max_size=4))
def test_the_ranking_is_that_of_the_graph_by_words_alone(world: Searched, query: str, k: int, exclude: list[str]) -> None:
    compare(world, live(world.version), query, k, exclude)


@pytest.mark.parametrize("query", ["电影", "inceptoin", "HEAT", "the thing"])
def test_an_item_that_is_gone_is_never_found(world: Searched, query: str) -> None:
    found = live(world.version).search(query, NOW, 20, exclude=())
    assert found is not None
    assert sorted(found.ids) == [f"f{n}" for n in range(10) if n != 4]


@settings(deadline=None, max_examples=8)
@given(titles=st.lists(st.text("ab 人", max_size=6), min_size=1, max_size=9), gone=st.integers(0, 9),
       query=st.text("ab 人", max_size=6))
def test_so_it_is_for_any_catalogue(tmp_path_factory: pytest.TempPathFactory, titles: list[str], gone: int, query: str) -> None:
    films = Catalogue([Item(id=str(n), text=title, available=n != gone) for n, title in enumerate(titles)])
    world = Searched(films, tmp_path_factory.mktemp("words"), seed=gone, traced=False)
    compare(world, live(world.version), query, 3, [])


def test_popularity_of_now_moves_what_words_find(world: Searched) -> None:
    first_seen, users = FirstSeen(), [f"u{n}" for n in range(1000)]
    first_seen.fill(users, [0] * len(users))
    popularity = LivePopularity(lambda: world.version, limit=5, first_seen=first_seen)
    before = popularity.search("the", NOW, 9, exclude=())
    assert before is not None
    last = before.ids[-1]
    popularity.observe(users, [last] * len(users), [NOW] * len(users))
    after = popularity.search("the", NOW + 1, 9, exclude=())
    assert after is not None
    assert after.ids.index(last) < 8
    assert after.scores[after.ids.index(last)] > before.scores[-1]


def damage_order(version: Path) -> None:
    np.save(version / ORDER_FILE, np.arange(3, dtype=np.int32))


DAMAGES = {
    "no order": lambda version: (version / ORDER_FILE).unlink(),
    "another order": damage_order,
    "no numbers": lambda version: (version / WORDS_FILE).write_text(json.dumps({"scale": None, "beta": 1})),
    "no index": lambda version: (version / "variables" / "variables.index").write_bytes(b"x" * 99),
    "a short index": lambda version: (version / "variables" / "variables.index").write_bytes(b""),
    "no data": lambda version: (version / "variables" / "variables.data-00000-of-00001").unlink(),
    "short data": lambda version: (version / "variables" / "variables.data-00000-of-00001").write_bytes(b"x" * 50),
    "no tokenizer": lambda version: (version / TOKENIZER_FILE).write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_told_and_popularity_answers(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    world = Searched(FILMS, tmp_path)
    DAMAGES[damage](tmp_path)
    popularity = live(world.version)
    with caplog.at_level(logging.WARNING):
        assert popularity.search("heat", NOW, 3, exclude=()) is None
        assert popularity.popular(NOW, 3) is not None
    assert "queries are not answered by their words: " in caplog.text
    assert "Export the model again." in caplog.text


def test_a_version_without_words_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    popularity = live(Searched(Catalogue([Item(id="a", text="")]), tmp_path).version)
    with caplog.at_level(logging.WARNING):
        assert popularity.search("a", NOW, 3, exclude=()) is None
    assert not caplog.text
