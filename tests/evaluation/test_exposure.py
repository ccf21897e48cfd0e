"""Exposure by group: by hand, and against a plain loop."""
import numpy as np
import pyarrow as pa
import pytest

from tfrec.evaluation.exposure import GroupedItems, exposure

TAGS = [["brand:a", "new"], ["brand:a", "brand:b", "brand:a"], [], None, ["brand:c"]]


def grouped(available: list[bool] | None = None) -> GroupedItems:
    return GroupedItems.of(pa.array(["p", "q", "r", "s", "t"]), pa.array(TAGS, pa.list_(pa.string())),
                           np.array(available or [True] * 5), prefix="brand:")


def shown(*slates: list[str]) -> pa.Table:
    rows = [(f"r{number}", item, position) for number, slate in enumerate(slates) for position, item in enumerate(slate)]
    request, item, position = zip(*rows, strict=True)
    return pa.table({"request_id": list(request), "item": list(item), "position": pa.array(position, pa.int32())})


def test_shares_by_hand() -> None:
    found = exposure(shown(["p", "r", "gone"], ["q"]), grouped())
    total = 1 + 1 / np.log2(3) + 0.5 + 1
    assert (found["requests"], found["shown"]) == (2, 4)
    assert found["groups"] == {
        "brand:a": {"exposure": round(2 / total, 4), "first_position": 1.0, "items": 0.4, "ratio": round(2 / total / 0.4, 2)},
        "brand:b": {"exposure": round(1 / total, 4), "first_position": 0.5, "items": 0.2, "ratio": round(1 / total / 0.2, 2)},
        "brand:c": {"exposure": 0.0, "first_position": 0.0, "items": 0.2, "ratio": 0.0}}
    assert found["without_group"] == round((1 / np.log2(3) + 0.5) / total, 4)


def test_a_group_whose_items_are_not_available_has_no_ratio() -> None:
    found = exposure(shown(["t", "p"]), grouped([True, True, True, True, False]))
    assert (found["groups"]["brand:c"]["items"], found["groups"]["brand:c"]["ratio"]) == (0.0, None)


def test_answers_by_chance_have_a_ratio_of_1() -> None:
    rng, n = np.random.default_rng(0), 300
    tags = pa.array([[f"g{i % 3}"] if i % 3 else ["g0", "x"] for i in range(n)], pa.list_(pa.string()))
    items = GroupedItems.of(pa.array([f"i{i}" for i in range(n)]), tags, np.ones(n, bool), prefix="g")
    found = exposure(shown(*([f"i{i}" for i in rng.permutation(n)[:10]] for _ in range(2_000))), items)
    for group in found["groups"].values():
        assert group["ratio"] == pytest.approx(1, abs=0.05)
    assert found["without_group"] == 0
