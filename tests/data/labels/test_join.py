"""Which outcome belongs to which shown item, when an example is emitted, and what is left out."""

import sqlglot

from tests.data.labels.world import ITEMS, brief
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.labels import join as join_module
from tfrec.data.labels.join import SCHEMA, statement


def test_a_click_a_skip_and_organic_behaviour(world):
    world.show("r1", 1000, "a", "b", query="heat", history=("c",))
    world.act("e1", 1010, "b", request="r1")
    world.act("e2", 1020, "c", user="v")
    got = world.join(world.window(None, now=1101))
    assert got.table.schema == SCHEMA
    skipped, clicked, organic = got.table.to_pylist()
    assert skipped == {
        "example_id": "slate:r1/a", "source": "slate", "request_id": "r1", "user": "u", "query": "heat", "item": "a",
        "time": 1000, "action": None, "reward": 0.0, "converted": False, "shown_time": 1000, "position": 0, "log_propensity": 0.0,
        "slate_size": 2, "policy": "greedy", "model_version": 3, "history": ["c"], "history_action": [], "history_time": [],
        "exclude": [], "allow_tags": [], "deny_tags": [], "prior_items": [], "prior_log_p": [],
        "context": '{"place":"","device":"","profile":{}}', "positive_time": None, "positive_action": None,
    }  # fmt: skip
    assert clicked == skipped | {
        "example_id": "slate:r1/b", "item": "b", "time": 1010, "action": "click", "reward": 1.0, "position": 1,
        "positive_time": 1010, "positive_action": "click",
        **dict.fromkeys(["exclude", "allow_tags", "deny_tags", "prior_items", "prior_log_p", "context"]),
    }  # fmt: skip
    assert organic == dict.fromkeys(SCHEMA.names) | {
        "example_id": "organic:v/e2", "source": "organic", "user": "v", "query": "", "item": "c", "time": 1020, "action": "click",
        "reward": 1.0, "converted": False, "positive_time": 1020, "positive_action": "click",
    }  # fmt: skip


def test_a_negative_waits_until_its_label_has_matured(world):
    world.show("r1", 1000, "a")
    first = world.window(None, now=1100)  # the attribution window closes with this second
    got = world.join(first)
    assert (len(got), got.immature) == (0, 1)
    second = world.window(first, now=1101)
    assert second.start == second.end
    assert brief(world.join(second)) == [("slate:r1/a", 1000, None, 0.0)]
    assert len(world.join(world.window(second, now=9999))) == 0


def test_a_final_positive_is_learned_at_once_and_another_when_it_matured(world):
    world.show("r1", 1000, "a", "b", "c")
    world.act("e1", 1001, "a", "purchase", request="r1")
    world.act("e2", 1002, "b", "click", request="r1")
    world.act("e5", 1003, "c", "purchase", request="r1")
    world.act("e6", 1004, "c", "click", request="r1")  # after the final act nothing counts
    first = world.window(None, now=1010)
    assert brief(world.join(first)) == [("slate:r1/a", 1001, "purchase", 5.0), ("slate:r1/c", 1003, "purchase", 5.0)]
    world.act("e3", 1020, "a", "click", request="r1")  # nor in a later window
    world.act("e4", 1050, "b", "purchase", request="r1")  # a click before it does
    second = world.window(first, now=1060)
    got = world.join(second)
    assert (brief(got), got.late) == ([("slate:r1/b", 1050, "purchase", 6.0)], 1)
    assert len(world.join(world.window(second, now=9999))) == 0


def test_an_outcome_without_request_belongs_to_the_latest_place_its_user_saw(world):
    world.show("r1", 1000, "a")
    world.show("r2", 1050, "a")
    world.show("r3", 1050, "a", user="v")
    world.act("e0", 1050, "a", user="v")  # in the same second: nobody knows which was first
    world.act("e1", 1060, "a", "purchase")
    world.act("e2", 1151, "a", "purchase", user="v")  # a second late: on v's own account
    got = brief(world.join(world.window(None, now=1160)))
    assert got == [
        ("slate:r1/a", 1000, None, 0.0),
        ("organic:v/e0", 1050, "click", 1.0),
        ("slate:r3/a", 1050, None, 0.0),
        ("slate:r2/a", 1060, "purchase", 5.0),
        ("organic:v/e2", 1151, "purchase", 5.0),
    ]


def test_outcomes_that_no_place_takes_are_counted(world):
    world.show("r1", 1000, "a")
    world.act("e1", 1010, "b", request="r1")  # never shown there
    world.act("e2", 1101, "a", request="r1")  # too late
    world.act("e3", 999, "a", request="r1", user="v")  # before it was shown
    world.act("e4", 1010, "a", request="r9")  # no such request
    got = world.join(world.window(None, now=1200))
    assert (brief(got), got.unmatched) == ([("slate:r1/a", 1000, None, 0.0)], 4)


def test_an_outcome_may_arrive_before_its_impression(world):
    world.act("e1", 1010, "a", "purchase", request="r1", writer="fast")
    first = world.window(None, now=1020)
    got = world.join(first)
    assert (len(got), got.unmatched) == (0, 1)
    world.show("r1", 1000, "a", writer="slow")
    assert brief(world.join(world.window(first, now=1030))) == [("slate:r1/a", 1010, "purchase", 5.0)]


def test_what_was_emitted_is_not_taken_back_by_a_late_impression(world):
    world.show("r1", 1000, "a")
    world.act("e1", 1060, "a", "purchase")
    first = world.window(None, now=1070)
    assert brief(world.join(first)) == [("slate:r1/a", 1060, "purchase", 5.0)]
    world.show("r2", 1050, "a", writer="slow")  # the latest place before the purchase, as it turns out
    assert "slate:r1/a" not in [e[0] for e in brief(world.join(world.window(first, now=1300)))]


def test_old_rows_are_read_back_as_far_as_they_matter(world, monkeypatch):
    world.act("e1", 1000, "b")
    first = world.window(None, now=2600)
    world.act("e2", 2600, "b")  # 1,600 s later: a repeat, though the attribution window is 100 s
    assert world.join(world.window(first, now=2700)).noise == 1
    monkeypatch.setattr(join_module, "REPEAT_SECONDS", 0)
    world.show("r1", 2600, "a")
    second = world.window(first, now=2690)
    assert world.join(second).immature == 1
    world.act("e3", 2700, "a", "purchase", request="r1")
    assert brief(world.join(world.window(second, now=2700))) == [("slate:r1/a", 2700, "purchase", 5.0)]


def test_duplicates_noise_unknown_items_and_unrewarded_actions_are_counted(world):
    world.act("e1", 1000, "a")
    world.act("e1", 1000, "a")
    first = world.window(None, now=1001)
    got = world.join(first)
    assert (brief(got), got.duplicates) == ([("organic:u/e1", 1000, "click", 1.0)], 1)
    world.act("e1", 1000, "a", writer="other")
    world.act("e2", 1000 + 1799, "a")  # the same again within half an hour
    world.act("e3", 1000 + 1799 + 1800, "a")  # and after it
    world.act("e4", 1002, "zzz")
    world.show("r1", 1000, "zzz", "a", user="v")
    world.act("e5", 1003, "b", "scroll")
    got = world.join(world.window(first, now=5000))
    assert [e[0] for e in brief(got)] == ["slate:r1/a", "organic:u/e3"]
    assert (got.duplicates, got.noise, got.unknown_items, got.unrewarded) == (1, 1, 2, 1)


def test_nobody_acts_faster_than_hands(world, monkeypatch):
    monkeypatch.setattr(join_module, "MINUTE_LIMIT", 2)
    for k, item in enumerate(ITEMS):
        world.act(f"bot{k}", 600 + k, item, user="bot")
        world.act(f"e{k}", 600 + 30 * k, item, user="person")
    got = world.join(world.window(None, now=700))
    assert [e[0] for e in brief(got)] == ["organic:person/e0", "organic:person/e1", "organic:person/e2", "organic:person/e3"]
    assert got.noise == 4


def test_one_request_logged_twice_is_one_slate(world):
    for writer in ("w", "other"):
        world.show("r1", 1000, "a", "b", writer=writer)
    world.act("e1", 1001, "a", "purchase", request="r1")
    got = brief(world.join(world.window(None, now=2000)))
    assert got == [("slate:r1/b", 1000, None, 0.0), ("slate:r1/a", 1001, "purchase", 5.0)]


def test_an_empty_window_gives_no_examples(world):
    got = world.join(world.window(None, now=10))
    assert (len(got), got.table.schema) == (0, SCHEMA)
    world.act("e1", 1000, "a")
    window = world.window(world.window(None, now=1001), now=1001)
    assert window.start == window.end
    assert len(world.join(window)) == 0


def test_a_log_behind_a_url_gives_the_same(world):
    world.show("r1", 1000, "a", "b", history=("c", "a"))
    world.act("e1", 1001, "a", "purchase", request="r1")
    world.act("e2", 1002, "c", user="v")
    remote = FeedbackLog(f"file://{world.log.root}")  # read through Arrow, as an object store is
    window = world.window(None, now=2000)
    assert remote.window(None, now=2000) == window
    assert world.join(window, log=remote).table.equals(world.join(window).table)


def test_the_statement_translates_to_spark():
    [spark] = sqlglot.transpile(statement("join.sql"), read="duckdb", write="spark", unsupported_level=sqlglot.ErrorLevel.RAISE)
    tree = sqlglot.parse_one(spark, read="spark")
    tables = {table.name for table in tree.find_all(sqlglot.exp.Table)} - {cte.alias for cte in tree.find_all(sqlglot.exp.CTE)}
    assert tables == {"impressions", "outcomes", "bounds", "catalogue", "rewards", "lengths", "settings"}
    assert "`user`" in spark


def test_an_event_id_is_its_users(world):
    world.act("e", 1000, "a")
    world.act("e", 1000, "a", user="v")
    world.act("e", 1000, "a", user="v")
    got = world.join(world.window(None, now=1100))
    assert ([e[0] for e in brief(got)], got.duplicates) == (["organic:u/e", "organic:v/e"], 1)


def test_a_time_after_now_counts_as_now(world):
    world.show("r1", 1000, "a")
    world.act("e1", 1 << 39, "a", "purchase", request="r1")
    world.act("e2", 1 << 39, "b", user="v")
    first = world.window(None, now=1050)
    assert brief(world.join(first)) == [("organic:v/e2", 1050, "click", 1.0), ("slate:r1/a", 1050, "purchase", 5.0)]
    assert len(world.join(world.window(first, now=2000))) == 0
