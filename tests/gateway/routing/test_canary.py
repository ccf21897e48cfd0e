"""Which version answers whom."""
import logging

import pytest

from tests.gateway.world import KEY, Make, ask


def test_a_user_stays_with_the_version_that_the_keyed_hash_gives(make: Make) -> None:
    world = make(stable_label="stable", canary_label="old", canary_share=0.3)
    users = [f"u{n}" for n in range(200)]
    answers = [world.http.post("/v1/recommend", json=[{"user": user} for user in users]).json() for _ in range(2)]
    labels = [[answer["label"] for answer in some] for some in answers]
    assert labels[0] == labels[1]
    # what the hash says, worked out beside it
    assert labels[0] == ["old" if int(KEY.of(user), 16) < 0.3 * 16**32 else "stable" for user in users]
    assert 40 <= labels[0].count("old") <= 80  # 60 expected, standard deviation 6.5
    assert {(answer["label"], answer["model_version"]) for answer in answers[0]} == {("stable", 4), ("old", 3)}
    text = world.http.get("/metrics").text
    assert f'answers_total{{label="old",model_version="3",policy="greedy"}} {2 * labels[0].count("old")}.0' in text


def test_everyone_gets_stable_while_the_canary_is_not_served(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = make(stable_label="stable", canary_label="none", canary_share=1.0)
    calls = []
    real = world.client.recommend
    monkeypatch.setattr(world.client, "recommend", lambda **inputs: calls.append(inputs["label"]) or real(**inputs))
    with caplog.at_level(logging.WARNING):
        answers = [ask(world) for _ in range(3)]
    for answer in answers:
        assert (answer["model_version"], answer["label"], answer["fallback"]) == (4, "stable", "none is not served")
    assert calls == ["none", "stable", "stable", "stable"]  # it is asked again after a while
    assert caplog.text.count("none is not served; its users get stable") == 1
    assert [row["model_version"] for row in world.rows("impressions")] == [4] * 6
