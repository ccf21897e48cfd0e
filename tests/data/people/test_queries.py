"""What is not kept of a query is not in the log, and nobody learns from it as if it were words, or as if there had been none."""
from pathlib import Path

import pytest

from tests.data.labels.world import ITEMS, World
from tests.data.settled.test_settle import advance
from tfrec.config import Queries
from tfrec.data.examples.slates import drawn_slates, matured_slates
from tfrec.data.people.pseudonym import Pseudonyms
from tfrec.data.people.queries import HIDDEN, NOT_KEPT, query_keeper
from tfrec.data.settled.examples import Buckets, SettledExamples

PEOPLE = Pseudonyms(b"k" * 16)


def test_equal_queries_have_equal_hashes() -> None:
    keep, hashed, drop = (query_keeper(how, PEOPLE) for how in ("keep", "hash", "drop"))
    assert [kept("") for kept in (keep, hashed, drop)] == ["", "", ""]
    assert (keep("Red  hat"), drop("Red  hat")) == ("Red  hat", HIDDEN)
    assert hashed("Red  hat") == hashed("red hat ") != hashed("red hats")
    assert hashed("red hat").startswith(HIDDEN)
    assert len(hashed("red hat")) == 33
    assert query_keeper("hash", Pseudonyms(b"j" * 16))("red hat") != hashed("red hat")


@pytest.mark.parametrize("how", ["keep", "hash", "drop"])
def test_nobody_learns_from_what_is_not_kept(tmp_path: Path, how: Queries) -> None:
    world, settled, kept = World(tmp_path / "log"), SettledExamples(tmp_path / "examples"), query_keeper(how, PEOPLE)
    for n, query in enumerate(["", "red hat", "it's 100%", "blue"]):
        world.show(f"r{n}", 1000 + n, "a", "b", query=kept(query))
        world.act(f"e{n}", 1010 + n, "b", request=f"r{n}")
    upto = advance(world, settled, now=2000)
    is_kept = how == "keep"
    assert sorted(settled.searches(upto=upto)["query"].to_pylist()) == (["blue", "it's 100%", "red hat"] if is_kept else [])
    slates, left_out = matured_slates(settled, upto=upto, items=ITEMS, after=0, until=2000, most=9)
    assert slates["request_id"].to_pylist() == (["r0", "r1", "r2", "r3"] if is_kept else ["r0"])
    assert left_out == ({} if is_kept else {NOT_KEPT: 3})
    assert drawn_slates(settled, upto=upto, items=ITEMS, positions=1, most=9)[0].num_rows == 0
    found = settled.behaviour(after=0, upto=upto, sample=Buckets.share(1.0, seed=0))
    assert found.num_rows == 4  # what people did is learnt
    assert not any("red" in (row["query"] or "") for row in world.log.read("impressions").to_pylist()) or is_kept
