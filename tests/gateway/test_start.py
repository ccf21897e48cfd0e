"""A gateway that starts on a log knows what one knows that took the same outcomes one by one."""
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gateway.test_history import RULE, did, logged
from tfrec.config import GatewayConfig, load_config
from tfrec.data.behaviour.first_seen import first_seen
from tfrec.data.behaviour.newcomers import HISTORY_SECONDS
from tfrec.data.behaviour.newest_outcomes import first_positives
from tfrec.data.records import Outcome
from tfrec.errors import UsageError
from tfrec.gateway.first_seen import FirstSeen
from tfrec.gateway.history import UserHistories
from tfrec.gateway.live_popularity import LivePopularity
from tfrec.gateway.metrics import Metrics
from tfrec.gateway.popularity_by_label import PopularityByLabel
from tfrec.gateway.rolling_prior import Choice
from tfrec.gateway.serve import serve_gateway
from tfrec.models.popularity_prior import Override, PopularityPrior
from tfrec.release.popularity_files import write_prior

EXPORT = 10 * HISTORY_SECONDS
ACT = st.tuples(st.sampled_from("uvwx"), st.sampled_from("abc"), st.integers(0, 12),
                st.sampled_from(["click", "purchase", "look", "scroll"]))


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version that was exported before the last acts, and knows two of three items."""
    directory = tmp_path_factory.mktemp("version")
    prior = PopularityPrior(2)
    prior.update([0, 1], [EXPORT, EXPORT])
    write_prior(directory, prior, ["a", "b"])
    return directory


def rounded(moved: Override) -> dict[str, np.float32]:
    return dict(zip(moved.ids, moved.log_p.round(5), strict=True))


def popularity(version: Path) -> PopularityByLabel:
    return PopularityByLabel(GatewayConfig(live_users=2), metrics=Metrics(), version_dir=lambda _: version)


def one_by_one(outcomes: list[Outcome], version: Path) -> PopularityByLabel:
    found, memory = popularity(version), UserHistories(RULE)
    for one in outcomes:
        found.meet([one.user], [one.time])
        entered = memory.add([one])
        found.observe([user for user, _ in entered], [event.item for _, event in entered], [event.time for _, event in entered])
    return found


@settings(deadline=None, max_examples=30)
@given(acts=st.lists(ACT, max_size=25))
def test_live_popularity_is_what_a_running_gateway_counts_for_a_version(
    acts: list[tuple[str, str, int, str]], version: Path
) -> None:
    """Whoever came, whatever they did and however long ago: items, users and newcomers count alike."""
    outcomes = [did(n, user, item, half_days * HISTORY_SECONDS // 2 + EXPORT - 3 * HISTORY_SECONDS, action)
                for n, (user, item, half_days, action) in enumerate(sorted(acts, key=lambda act: act[2]))]
    now = EXPORT + 20 * HISTORY_SECONDS
    started, table = popularity(version), logged(outcomes)
    started.fill(first_positives(table, RULE, most=100), first_seen(table, now=now), now=now)
    grown = one_by_one(outcomes, version)
    expected, found = grown.override("", now), started.override("", now)
    assert expected is not None
    assert found is not None
    assert rounded(found) == rounded(expected)
    assert started.stable.damped() == grown.stable.damped()


def test_one_user_has_at_most_a_hundredth_of_what_is_remembered(version: Path) -> None:
    live = LivePopularity(lambda: version, limit=2, users=1, remembered=10)
    live.fill([Choice("u", "a", EXPORT + 1, False), Choice("u", "b", EXPORT + 2, False), Choice("v", "b", EXPORT + 3, False)])
    grown = PopularityPrior(2)
    grown.update([0, 1, 0, 1], [EXPORT, EXPORT, EXPORT + 1, EXPORT + 3])
    assert rounded(live.override(EXPORT + 9)) == dict(zip("ab", grown.log_p().round(5), strict=True))


@given(st.lists(st.dictionaries(st.sampled_from("uvwx"), st.integers(0, 5)), max_size=3))
def test_users_are_known_since_the_earliest_time_that_is_told(tables: list[dict[str, int]]) -> None:
    first, now = FirstSeen(), HISTORY_SECONDS + 2
    for one in tables:
        first.know(pa.table({"user": pa.array(list(one), pa.string()), "time": pa.array(list(one.values()), pa.int64())}))
    since = {user: min((one[user] for one in tables if user in one), default=now) for user in "uvwxy"}
    expected = [now - since[user] < HISTORY_SECONDS for user in "uvwxy"]
    assert first.newcomers(pa.array(list("uvwxy")), np.full(5, now), now=now).tolist() == expected
    assert [first.is_newcomer(user, now, now=now) for user in "uvwxy"] == expected


def test_a_certificate_that_is_missing_ends_the_start(tmp_path: Path) -> None:
    config = load_config(None, [f"run={tmp_path}", f"gateway.tls.ca={tmp_path}/ca.crt"])
    with pytest.raises(UsageError, match=r"ca.crt \(gateway.tls.ca\): cannot be read: No such file"):
        serve_gateway(config)
