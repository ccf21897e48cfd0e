"""Histories as served, and the records that a day writes, on a log of three users."""
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

from tests.benchmarks.kuairand.video_log import FIRST_DAY, SPACING, VideoLog, counted_of_users, histories, read

MS = 1000


@pytest.fixture
def log(tmp_path: Path) -> VideoLog:
    videos = {"video_id": [10, 11, 12], "video_type": ["NORMAL"] * 3, "upload_type": ["Web"] * 3, "music_type": [9.0, None, 4.0],
              "upload_dt": ["2022-04-10"] * 3, "video_duration": [8000.0, None, 61000.0], "tag": ["39", "39,68", "2"]}
    at = FIRST_DAY * MS
    shown = {"user_id": [1, 2, 1, 1], "video_id": [10, 10, 12, 11], "time_ms": [at, at + 5, at + 5, at + 5]}
    happened = {"is_click": [1, 0, 0, 1], "long_view": [1, 0, 0, 0], "is_hate": [0, 0, 1, 0]}
    rest = dict.fromkeys(("is_like", "is_follow", "is_comment", "is_forward", "tab"), [0] * 4)
    before = {"user_id": [1], "last_time_ms": [at], "long_watch_seq": [[12, 99, 11, 12]]}
    pq.write_table(pa.table(videos), tmp_path / "videos.parquet")
    pq.write_table(pa.table(shown | happened | rest | {"play_time_ms": [9000, 0, 0, 1000]}), tmp_path / "impressions.parquet")
    pq.write_table(pa.table(before), tmp_path / "before.parquet")
    return read(tmp_path, length=3)


def test_what_is_shown_to_a_user_in_one_millisecond_is_one_slate(log: VideoLog) -> None:
    shown, outcomes = log.records(0, pseudonyms={1: "p1", 2: "p2"})
    assert [(one.user, [(s.item, s.position) for s in one.slate]) for one in shown] == [
        ("p1", [("10", 0)]), ("p1", [("12", 0), ("11", 1)]), ("p2", [("10", 0)])]
    assert [(one.item, one.action, one.time - FIRST_DAY) for one in outcomes] == [
        ("10", "click", 1), ("10", "long_view", 10), ("12", "hate", 1), ("11", "click", 1)]
    assert {one.request_id for one in outcomes} == {"r0", "r1"}


def test_what_was_watched_before_the_log_is_base_behaviour_and_history(log: VideoLog, tmp_path: Path) -> None:
    user, item, time = log.base
    day_before = FIRST_DAY - 86_400
    assert_array_equal(user, [1, 1])  # of two views of a video the newest stands, and 99 is no video of the catalogue
    assert_array_equal(item, [1, 2])
    assert_array_equal(time, [day_before - SPACING, day_before])
    assert [one.history for one in log.records(0, pseudonyms={1: "p1", 2: "p2"})[0]] == [("11", "12"), ("11", "12"), ()]
    log.write_base(tmp_path / "base.parquet")
    assert pq.read_table(tmp_path / "base.parquet").to_pylist()[1] == {
        "user": "u1", "item": "12", "time": day_before, "action": "long_view"}


def test_a_history_holds_the_newest_positives_of_earlier_seconds_each_video_once() -> None:
    user, item, time = np.zeros(6, int), np.array([5, 6, 5, 7, 8, 9]), np.array([100, 100, 101, 102, 103, 110])
    positive = np.array([1, 1, 1, 0, 1, 0], bool)
    base = (np.array([0]), np.array([4]), np.array([50]))
    found, times, is_base = histories(user, item, time, positive, base, length=3)
    assert_array_equal(found, [[4, -1, -1], [4, -1, -1], [4, -1, -1], [4, 5, 6], [4, 5, 6], [5, 6, 8]])
    assert_array_equal(times[-1], [101, 101, 104])
    assert_array_equal(is_base[:, 0], [1, 1, 1, 1, 1, 0])


def test_an_app_counts_earlier_seconds_of_each_user_and_no_day_that_is_asked(log: VideoLog) -> None:
    later = replace(log, user=np.array([1, 2, 1, 1]), time=np.array([5, 6, 6, 7]) + FIRST_DAY, day=np.array([0, 0, 0, 1]),
                    outcomes=log.outcomes | {"click": np.array([1, 1, 0, 1], bool), "long_view": np.array([1, 0, 0, 0], bool)})
    nothing = {"shows": "0", "click_rate": "0.4000", "view_rate": "0.3000"}
    assert counted_of_users(later, until=1, prior=10.0) == [
        nothing, nothing,
        {"shows": "1", "click_rate": f"{5 / 11:.4f}", "view_rate": f"{4 / 11:.4f}"},
        {"shows": "2", "click_rate": f"{5 / 12:.4f}", "view_rate": f"{4 / 12:.4f}"}]
    assert counted_of_users(replace(later, day=np.array([1, 1, 1, 1])), until=1, prior=10.0)[-1]["shows"] == "0"
    assert replace(later, counted=[{"shows": "3"}] * 4).known_of(2)["shows"] == "3"
