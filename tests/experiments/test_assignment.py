"""Who is in which arm."""
from collections import Counter
from hashlib import sha256

import numpy as np
import pytest

from tfrec.experiments.assignment import arm_of, fraction

USERS = [sha256(str(n).encode()).hexdigest()[:32] for n in range(4000)]


def test_a_user_stays_in_an_arm_whatever_others_there_are() -> None:
    before = {user: arm_of(user, "a.1", {"plain": 0.5, "warm": 0.2}) for user in USERS}
    assert before == {user: arm_of(user, "a.1", {"plain": 0.5, "warm": 0.2, "hot": 0.3}) if arm else None
                      for user, arm in before.items()}


def test_arms_have_their_shares_and_the_rest_takes_no_part() -> None:
    came = Counter(arm_of(user, "a.1", {"plain": 0.5, "warm": 0.2}) for user in USERS)
    for arm, share in (("plain", 0.5), ("warm", 0.2), (None, 0.3)):
        assert came[arm] == pytest.approx(share * len(USERS), abs=4 * (share * (1 - share) * len(USERS)) ** 0.5)
    assert {arm_of(user, "a.1", {"a": 0.5, "b": 0.5}) for user in USERS} == {"a", "b"}


def test_two_experiments_and_two_starts_of_one_are_independent() -> None:
    rows = np.array([[fraction(user, salt) for user in USERS] for salt in ("a.1", "b.2", "a.3")])
    assert abs(np.corrcoef(rows) - np.eye(3)).max() < 4 / len(USERS) ** 0.5


def test_the_number_of_a_user_never_changes() -> None:
    """Or everybody would change arms when tfrec is updated."""
    assert fraction("0123456789abcdef0123456789abcdef", "warmer.1") == pytest.approx(0.656233923958, abs=1e-12)
