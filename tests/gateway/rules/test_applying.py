"""Rules on a request and on its slate: what is asked, in which order conflicts end, and where pins stand."""
import math
from typing import Any

import pytest

from tfrec.gateway.routing.slate_request import SlateAnswer, SlateRequest
from tfrec.gateway.rules.applying import apply_rules, placed
from tfrec.gateway.rules.known_items import KnownItems, PinnedItem
from tfrec.gateway.rules.rule import BusinessRule, RuleBook

KNOWN = KnownItems(
    {"p": PinnedItem(frozenset({"new"}), {"price": 9.0}, True), "q": PinnedItem(frozenset(), {}, True),
     "gone": PinnedItem(frozenset(), {}, False)},
    {"out": frozenset({"p", "x"})}, frozenset({"price"}))


def request(**asked: Any) -> SlateRequest:
    return SlateRequest(**{"user": "u", "time": 1, "query": "", "k": 4, "history": (), "exclude": ["seen"], "allow_tags": (),
                           "deny_tags": (), "label": "", "explore": False, "seed": 0} | asked)


def pin(*items: str, name: str = "pin", position: int = 0, **said: Any) -> BusinessRule:
    return BusinessRule.model_validate({"name": name, "do": "pin", "items": items, "position": position, **said})


def out(name: str = "out", **said: Any) -> BusinessRule:
    return BusinessRule.model_validate({"name": name, "do": "exclude", **said})


def applied(*rules: BusinessRule, known: KnownItems | None = KNOWN, **asked: Any) -> tuple[SlateRequest, list[tuple[str, str]]]:
    return apply_rules(RuleBook(rules, "v1"), known, request(**asked), context={}, now=1e9)


def answer(*items: str) -> SlateAnswer:
    return SlateAnswer(items, [9.0 - n for n in range(len(items))], 3, "", "plackett_luce(...)", [-1.0] * len(items))


def test_without_a_rule_that_holds_nothing_changes() -> None:
    found, skipped = applied(pin("p", when={"device": "tv"}))
    assert (found, skipped) == (request(), [])
    assert placed(found, answer("a")) == answer("a")
    assert found.without_model is found
    assert found.sent is found


def test_exclusions_go_through_the_filters_of_the_request() -> None:
    found, _ = applied(out(items=["x"], tags=["adult"]), out("dear", bounds={"price": {"min": 50}}), deny_tags=["mine"],
                       bounds={"price": (10.0, 80.0)})
    assert (found.exclude, found.deny_tags) == (["seen", "x"], ["mine", "adult"])
    least, most = found.bounds["price"]
    assert (least, most < 50, most) == (10.0, True, pytest.approx(50))
    assert found.ruled is not None
    assert found.ruled.applied.names == ("out", "dear")
    assert (found.sent.bounds, found.k) == ({"price": (10.0, 80.0)}, 4)


def test_where_a_request_and_a_rule_leave_no_number_nothing_is_shown() -> None:
    found, _ = applied(out(bounds={"price": {"max": 80}}), bounds={"price": (10.0, 80.0)})
    least, most = found.bounds["price"]
    assert least == most > 1e300


def test_pinned_items_are_taken_out_of_the_draw_and_stand_where_they_belong() -> None:
    found, skipped = applied(pin("p", position=2), pin("q", name="first"))
    assert (found.k, found.exclude, skipped) == (2, ["seen", "p", "q"], [])
    slate = placed(found, answer("a", "b"))
    assert slate.items == ("q", "a", "p", "b")
    assert slate.log_propensities == (0.0, -1.0, 0.0, -1.0)
    assert slate.scores == (0.0, 9.0, 0.0, 8.0)
    assert (slate.policy, slate.version) == ("plackett_luce(...)", 3)
    assert found.ruled is not None
    assert found.ruled.applied.pinned == ("p", "q")


def test_a_short_slate_ends_with_its_pins() -> None:
    found, _ = applied(pin("p", "q", position=2))
    assert placed(found, answer("a")).items == ("a", "p", "q")
    assert placed(found, answer()).items == ("p", "q")


def test_a_slate_may_be_pins_alone() -> None:
    found, skipped = applied(pin("p", "q"), k=1)
    assert (found.k, skipped) == (1, [])  # the model server takes no 0
    assert placed(found, answer("a")).items == ("p",)


@pytest.mark.parametrize(("rules", "asked", "why"), [
    ([pin("nowhere")], {}, "unknown"),
    ([pin("gone")], {}, "unavailable"),
    ([pin("p")], {"exclude": ["p"]}, "excluded"),
    ([pin("p"), out(items=["p"])], {}, "excluded"),
    ([pin("p"), out(tags=["new"])], {}, "filtered"),
    ([pin("p"), out(bounds={"price": {"max": 9}})], {}, "filtered"),
    ([pin("q"), out(bounds={"price": {"max": 9}})], {}, "filtered"),  # it has no price
    ([pin("p")], {"allow_tags": ["old"]}, "filtered"),
    ([pin("p")], {"deny_tags": ["new"]}, "filtered"),
    ([pin("p")], {"bounds": {"price": (10.0, None)}}, "filtered"),
    ([pin("q"), pin("p", name="late")], {}, "taken"),
    ([pin("p"), pin("p", name="late", position=1)], {}, "taken"),
])
def test_a_pin_that_cannot_hold_is_skipped_with_its_reason(rules: list[BusinessRule], asked: dict[str, Any], why: str) -> None:
    found, skipped = applied(*rules, **asked)
    assert [reason for _, reason in skipped] == [why]
    pinned = () if found.ruled is None else found.ruled.applied.pinned
    assert pinned == (rules[0].items if why == "taken" else ())


def test_a_pin_beyond_the_slate_is_no_matter() -> None:
    assert applied(pin("p", position=4)) == (request(), [])


def test_an_unknown_column_would_hide_everything_and_is_skipped() -> None:
    found, skipped = applied(out(bounds={"weight": {"min": 1}}))
    assert (found, skipped) == (request(), [("out", "column")])


def test_boosts_add_up_in_the_order_of_the_file() -> None:
    up = BusinessRule.model_validate({"name": "up", "do": "boost", "tags": ["new"], "factor": 3})
    down = BusinessRule.model_validate({"name": "down", "do": "bury", "items": ["x"], "factor": 2})
    lost = BusinessRule.model_validate({"name": "lost", "do": "bury", "bounds": {"weight": {"min": 1}}, "factor": 2})
    found, skipped = applied(up, pin("p"), down, lost)
    assert found.boosts == (("tag", "new", math.log(3), None, None), ("item", "x", -math.log(2), None, None))
    assert skipped == [("lost", "column")]
    assert found.ruled is not None
    assert found.ruled.applied.names == ("up", "pin", "down")
    assert (found.unboosted.boosts, found.unboosted.ruled.pins, found.unboosted.k) == ((), {0: "p"}, 3)  # type: ignore[union-attr]
    assert request().boosts == ()
    assert request().unboosted == request()


def test_without_a_catalogue_pins_hold_where_no_tag_or_number_is_named() -> None:
    assert applied(pin("any"), known=None)[0].k == 3
    assert applied(pin("any"), known=None, deny_tags=["t"])[1] == [("pin", "filtered")]


def test_without_a_model_ids_stand_for_tags() -> None:
    found, _ = applied(out(tags=["new"]), pin("q"), exclude=["seen"], allow_tags=[])
    known = found.without_model
    assert known is not None
    assert (known.deny_tags, set(known.exclude), known.k) == ((), {"seen", "q", "p", "x"}, 3)
    assert applied(out(tags=["new"]), known=None)[0].without_model is None
    by_id = applied(out(items=["x"]), known=None)[0].without_model
    assert by_id is not None
    assert set(by_id.exclude) == {"seen", "x"}
