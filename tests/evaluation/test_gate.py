"""Verdicts and their reasons."""
import json
from typing import Any, NamedTuple

import numpy as np
import pytest

from tfrec.errors import UsageError
from tfrec.evaluation.gate import Margins, Reason, decide
from tfrec.evaluation.gate_figures import Floor, SearchRanks, measure
from tfrec.evaluation.gate_words import figures_of, reason_in_words
from tfrec.evaluation.intervals import Interval
from tfrec.evaluation.pair_accuracy import PairAccuracy
from tfrec.evaluation.policy_value import PolicyValue
from tfrec.evaluation.protocol import Ranks


def ranked(hits: int, *, n: int = 100) -> Ranks:
    """`hits` of `n` events at rank 1, one person an event, so that the redraws are alike for all."""
    none = np.zeros(n, bool)
    rank = np.where(np.arange(n) < hits, 1.0, 99.0)
    return Ranks(np.arange(n), np.arange(n, dtype=np.int32), rank, np.full(n, 100), none, none, 100)


class Verdict(NamedTuple):
    promote: bool
    why: Reason
    reason: str  # in words
    figures: dict[str, Any]


def verdict(champion: Ranks | None, challenger: Ranks, baselines: dict[str, Ranks], *, margin: float, search_margin: float = 1.0,
            pair_margin: float = 1.0, keep_share: float = 0.0, value_margin: float = 1.0, forget_margin: float = 1.0,
            **measured: Any) -> Verdict:
    margins = Margins(margin, pairs=pair_margin, keep=keep_share, search=search_margin, value=value_margin, earlier=forget_margin)
    found = decide(measure(champion, challenger, baselines, **measured), margins)
    return Verdict(found.promote, found.reason, reason_in_words(found), figures_of(found))


def test_a_challenger_as_good_is_promoted_with_its_figures() -> None:
    found = verdict(ranked(8), ranked(9), {"popularity_7d": ranked(3)}, margin=0.005)
    assert (found.promote, found.why) == (True, Reason.PROMOTED)
    assert found.reason.startswith("challenger HR@10 .0900 is .0100 above the champion's .0800 (paired interval [.0000, .03")
    assert " and .0600 above 7-day popularity's .0300 (paired interval [" in found.reason
    assert found.reason.endswith(", on 100 events")
    assert found.figures["hr@10"] == {"challenger": 0.09, "champion": 0.08, "popularity_7d": 0.03}
    assert found.figures["difference"]["champion"]["mean"] == pytest.approx(0.01)
    json.dumps(found.figures, allow_nan=False)


def test_the_margin_is_what_a_challenger_may_lose() -> None:
    assert verdict(ranked(8), ranked(7), {}, margin=0.02).promote
    held = verdict(ranked(8), ranked(7), {}, margin=0.005)
    assert (held.promote, held.why) == (False, Reason.BELOW_CHAMPION)
    assert held.reason.startswith("challenger HR@10 .0700 is .0100 below the champion's .0800 (paired interval [-.03")
    assert held.reason.endswith("and the margin is .0050, on 100 events")


def test_a_count_holds_a_challenger_that_does_not_improve() -> None:
    counts = {"popularity_7d": ranked(20)}
    held = verdict(ranked(8), ranked(8), counts, margin=0.005)
    assert (held.promote, held.why) == (False, Reason.BELOW_BASELINE)
    assert held.reason.startswith("challenger HR@10 .0800 is .1200 below 7-day popularity's .2000 (paired interval [-.")
    assert "; it is equal to the champion's .0800" in held.reason
    assert verdict(ranked(8), ranked(9), counts, margin=0.005).promote
    assert not verdict(None, ranked(9), counts, margin=0.005).promote


def test_the_first_model_needs_no_champion() -> None:
    found = verdict(None, ranked(8), {}, margin=0.005)
    assert (found.promote, found.reason) == (True, "challenger HR@10 .0800 is the first, on 100 events")


def test_nothing_to_compare_on_is_held_and_other_events_are_refused() -> None:
    held = verdict(ranked(0, n=0), ranked(0, n=0), {}, margin=0.005)
    assert (held.promote, held.why) == (False, Reason.NO_EVENT)
    assert "no event can be asked" in held.reason
    with pytest.raises(UsageError, match="challenger and champion must be ranked on the same events, got 100 and 99"):
        verdict(ranked(1, n=99), ranked(1), {}, margin=0.005)


def test_a_challenger_that_forgets_is_held_whatever_it_learnt() -> None:
    before = ranked(40), ranked(30)
    found = verdict(ranked(8), ranked(20), {}, margin=0.005, earlier=before, forget_margin=0.05)
    assert (found.promote, found.why) == (False, Reason.FORGETS)
    assert found.reason.startswith(
        "it forgets: on 100 earlier events its HR@10 .3000 is .1000 below the champion's .4000 (paired interval [-.1"
    )
    assert "and the margin is .0500; challenger HR@10 .2000 is .1200 above the champion's .0800" in found.reason
    earlier = found.figures["earlier"]
    assert (earlier["events"], earlier["margin"], earlier["hr@10"]) == (100, 0.05, {"challenger": 0.3, "champion": 0.4})
    assert earlier["difference"]["champion"]["mean"] == pytest.approx(-0.1)
    json.dumps(found.figures, allow_nan=False)


def test_what_is_forgotten_within_the_margin_is_told_and_passes() -> None:
    found = verdict(ranked(8), ranked(9), {}, margin=0.005, earlier=(ranked(40), ranked(36)), forget_margin=0.05)
    assert (found.promote, found.figures["earlier"]["hr@10"]["challenger"]) == (True, 0.36)
    none = verdict(ranked(8), ranked(9), {}, margin=0.005, earlier=(ranked(0, n=0), ranked(0, n=0)), forget_margin=0.05)
    assert (none.promote, "earlier" in none.figures) == (True, False)
    with pytest.raises(UsageError, match="ranked on the same earlier events, got 99 and 100"):
        verdict(ranked(8), ranked(9), {}, margin=0.005, earlier=(ranked(1, n=99), ranked(1)))


def test_a_policy_that_may_earn_less_is_held_at_its_lower_bound() -> None:
    def judged(low: float) -> Verdict:
        value = PolicyValue(900, 0.2, Interval(low + 0.01, low, low + 0.02))
        return verdict(ranked(8), ranked(9), {}, margin=0.005, value=value, value_margin=0.1)

    assert judged(-0.02).promote  # a tenth of what was earned
    held = judged(-0.03)
    assert not held.promote
    said = "it may earn less: -0.0200 a request beyond the champion (95%: -0.0300 to -0.0100)"
    assert held.why is Reason.LOWER_VALUE
    assert held.reason.startswith(said)
    assert (held.figures["value"]["slates"], held.figures["value"]["gain"]["low"]) == (900, -0.03)


def test_where_slates_judge_a_policy_is_held_that_surely_earns_less() -> None:
    def judged(mean: float, high: float) -> Verdict:
        value = PolicyValue(900, 0.2, Interval(mean, -0.5, high))
        return verdict(ranked(8), ranked(9), {}, margin=0.005, value=value, value_margin=0.1, pairs=of_slates(0.0))

    assert judged(-0.03, 0.001).promote  # by chance
    assert judged(-0.02, -0.01).promote  # a tenth of what was earned
    held = judged(-0.03, -0.01)
    assert held.why is Reason.LOWER_VALUE
    said = "it earns less: -0.0300 a request beyond the champion (95%: -0.5000 to -0.0100); 0.2000 was earned"
    assert held.reason.startswith(said)


def of_slates(gap: float, *, width: float = 0.01) -> PairAccuracy:
    return PairAccuracy(40, 0.55, 0.55 + gap, Interval(gap, gap - width, gap + width))


def test_where_slates_judge_events_of_slates_do_not() -> None:
    """The champion finds what was chosen from its own slates, and the challenger what people found by themselves."""
    champion, challenger = ranked(60), ranked(60)
    challenger.rank[:] = challenger.rank[::-1]
    shown = np.arange(100) < 60
    assert verdict(champion, challenger, {}, margin=0.005, of_slates=shown).promote  # 60 to 60
    challenger.rank[50:60] = 99
    held = verdict(champion, challenger, {}, margin=0.005, of_slates=shown)
    assert (held.why, held.reason.endswith("on 100 events")) == (Reason.BELOW_CHAMPION, True)
    found = verdict(champion, challenger, {}, margin=0.005, of_slates=shown, pairs=of_slates(0.01))
    assert found.promote
    assert found.reason.startswith("challenger is right about .5600 of pairs in slates, .0100 above the champion's .5500 (paired "
                                   "interval [.0000, .0200]), on 40 slates; challenger HR@10 1.0000 is 1.0000 above")
    assert found.reason.endswith("on 40 events that came from no slate")
    assert (found.figures["pairs"]["gap"]["mean"], found.figures["of_no_slate"]["events"]) == (0.01, 40)
    assert found.figures["events"] == 100  # the floor of the next run is of all of them
    few = verdict(champion, challenger, {}, margin=0.005, of_slates=np.arange(100) < 71, pairs=of_slates(0.01))
    assert few.promote
    assert few.reason.endswith("on 40 slates")
    json.dumps(few.figures, allow_nan=False)


def test_events_of_slates_are_not_what_is_forgotten() -> None:
    before = ranked(40), ranked(30)
    shown = np.arange(100) < 40
    more: dict[str, Any] = {"earlier": before, "forget_margin": 0.05, "of_slates": shown}
    assert verdict(ranked(8), ranked(9), {}, margin=0.005, **more).why is Reason.FORGETS
    assert verdict(ranked(8), ranked(9), {}, margin=0.005, pairs=of_slates(0.0), **more).promote


def test_a_challenger_that_misorders_slates_is_held() -> None:
    held = verdict(ranked(8), ranked(9), {}, margin=0.005, pair_margin=0.02, pairs=of_slates(-0.03))
    assert (held.promote, held.why) == (False, Reason.MISORDERS)
    assert held.reason.startswith("it is less often right about what people chose, and the margin is .0200; challenger is right "
                                  "about .5200 of pairs in slates, .0300 below the champion's .5500 (paired interval [-.0400, ")
    assert verdict(ranked(8), ranked(9), {}, margin=0.005, pair_margin=0.02, pairs=of_slates(-0.019)).promote
    assert verdict(ranked(8), ranked(9), {}, margin=0.005, pair_margin=0.02, pairs=of_slates(-0.1, width=0.1)).promote  # chance
    unknown = PairAccuracy(3, 0.5, 0.5, None)
    found = verdict(ranked(8), ranked(9), {}, margin=0.005, pair_margin=0.0, pairs=unknown, of_slates=np.ones(100, bool))
    assert (found.promote, found.reason.startswith("challenger HR@10"), "pairs" in found.figures) == (True, True, False)


def test_where_slates_judge_one_run_may_not_replace_all_that_people_chose() -> None:
    def judged(hits: int, **more: Any) -> Verdict:
        return verdict(ranked(80), ranked(hits), {}, margin=0.005, keep_share=0.5, pairs=of_slates(0.1),
                       of_slates=np.ones(100, bool), **more)

    assert judged(40).promote
    assert judged(30).promote  # by chance, at a true rate of .4, in one of forty
    held = judged(25)
    assert (held.promote, held.why) == (False, Reason.MOVES_TOO_FAR)
    assert held.reason.startswith("it moves too far at once: its HR@10 .2500 on the newest 100 events is less than 50% of the "
                                  "champion's .8000 (retrain.keep_share); challenger is right about .6500 of pairs")


def test_a_log_that_cannot_tell_has_no_say() -> None:
    found = verdict(ranked(8), ranked(9), {}, margin=0.005, value=PolicyValue(3, 0.2, None, "too few"), value_margin=0.0)
    assert found.promote
    assert found.figures["value"]["reason"] == "too few"


def test_a_log_that_says_nothing_any_more_promotes_nobody() -> None:
    """Flipped labels or random clicks: both fall together, so only what was reached before shows it."""
    floor = Floor(0.07, 0.25, "the champion, when it was made,")
    held = verdict(ranked(2, n=1000), ranked(0, n=1000), {}, margin=0.005, floor=floor)
    assert (held.promote, held.why) == (False, Reason.BELOW_FLOOR)
    assert held.reason.startswith("it does not know what people want here, or these events do not tell: the champion, when it "
                                  "was made, reached .0700, and retrain.gate_floor asks for 25% of that; challenger HR@10 .0000")
    assert held.figures["floor"] == {"rate": 0.07, "share": 0.25, "of": "the champion, when it was made,"}
    assert verdict(ranked(20, n=1000), ranked(20, n=1000), {}, margin=0.005, floor=floor).promote


def test_a_few_events_without_a_hit_prove_nothing() -> None:
    assert verdict(ranked(0, n=20), ranked(0, n=20), {}, margin=0.005, floor=Floor(0.07, 0.25, "it")).promote
    # 0 of 200 at .0175: .0293, which is not certain; 0 of 300: .0050, which is
    assert verdict(ranked(0, n=200), ranked(0, n=200), {}, margin=0.005, floor=Floor(0.07, 0.25, "it")).promote
    assert not verdict(ranked(0, n=300), ranked(0, n=300), {}, margin=0.005, floor=Floor(0.07, 0.25, "it")).promote


def searched(champion: list[float], challenger: list[float], *, n_items: int = 1000) -> SearchRanks:
    return SearchRanks(np.array(champion), np.array(challenger), np.arange(len(champion)), n_items, "log")


def test_search_is_judged_beside_recommendation() -> None:
    worse = searched([1.0] * 60, [1.0] * 50 + [99.0] * 10)
    held = verdict(ranked(8), ranked(9), {}, margin=0.005, search=worse, search_margin=0.05)
    assert (held.promote, held.why) == (False, Reason.WORSE_SEARCH)
    assert held.reason.startswith("it searches worse: on 60 searches (log) its HR@10 .8333 is .1667 below the champion's 1.0000")
    assert held.figures["search"]["hr@10"] == {"challenger": pytest.approx(5 / 6), "champion": 1.0}
    json.dumps(held.figures, allow_nan=False)
    assert verdict(ranked(8), ranked(9), {}, margin=0.005, search=worse, search_margin=0.2).promote


def test_a_dead_search_is_held_whatever_the_margin() -> None:
    dead = searched([1.0] * 60, [500.5] * 60)
    held = verdict(ranked(8), ranked(60), {}, margin=1.0, search=dead, search_margin=1.0)
    assert not held.promote
    said = "its search is dead: on 60 searches (log) the mean rank of what was wanted is 500.5 of 1,000 items"
    assert held.why is Reason.DEAD_SEARCH
    assert held.reason.startswith(said)
    both = searched([500.5] * 60, [500.5] * 60)  # a catalogue whose texts say nothing
    assert verdict(ranked(8), ranked(9), {}, margin=0.005, search=both, search_margin=0.0).promote
