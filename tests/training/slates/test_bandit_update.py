"""The head's posterior: by hand, in parts as at once, after very many updates, and what it forgets."""
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tfrec.errors import DataError
from tfrec.models.bayesian_head import PRIOR_SD, BayesianHead
from tfrec.training.slates.bandit_update import update_head
from tfrec.training.slates.position_bias import PositionBiasModel

FLAT = PositionBiasModel(gain=1.0, intercept=0.0, position_weights=np.ones(1, np.float32), mean_reward=np.zeros(1, np.float32),
                         mean_score=0.0, noise=1.0)


def update(
    head: BayesianHead, phi: np.ndarray, reward: np.ndarray, *, bandit_decay: float = 1.0, bias: PositionBiasModel = FLAT
) -> None:
    update_head(head, [(phi[:, None], reward[:, None], np.ones((len(phi), 1), bool))], bias, bandit_decay=bandit_decay)


def precision(head: BayesianHead) -> np.ndarray:
    return head.factor.numpy() @ head.factor.numpy().T


def test_one_observation_by_hand() -> None:
    # prior precision 4 in each of two weights (sd 1/2), mean 1; phi = (2, 0), reward 5, noise 1:
    # precision 4 + 4 = 8, mean (4 * 1 + 2 * 5) / 8 = 1.75; the other weight stays
    head = BayesianHead(1)
    head.factor.assign(2 * np.eye(2))
    update(head, np.array([[2.0, 0.0]]), np.array([5.0]))
    assert_allclose(precision(head), [[8, 0], [0, 4]], rtol=1e-6)
    assert_allclose(head.mean, [1.75, 1], rtol=1e-6)


def test_the_position_the_gain_and_the_noise_by_hand() -> None:
    # m = .5, gain 4, intercept 1, noise 2: a reward of 3.5 at that position is (3.5 - .5) / (.5 * 4) = 1.5 in scores,
    # known with precision (.5 * 4 / 2)^2 = 1
    bias = PositionBiasModel(4.0, 1.0, np.array([0.5], np.float32), np.zeros(1, np.float32), 0.0, 2.0)
    head = BayesianHead(1)
    head.factor.assign(np.eye(2))
    update(head, np.array([[1.0, 0.0]]), np.array([3.5]), bias=bias)
    assert_allclose(head.mean, [(1 + 1.5) / 2, 1])
    assert_allclose(precision(head), np.diag([2, 1]))


def test_in_parts_as_at_once() -> None:
    rng = np.random.default_rng(0)
    phi, reward = rng.normal(size=(60, 5)), rng.normal(size=60)
    once, parts = BayesianHead(4), BayesianHead(4)
    update(once, phi, reward)
    for start in range(0, 60, 20):
        update(parts, phi[start : start + 20], reward[start : start + 20])
    assert_allclose(parts.mean, once.mean, rtol=1e-9)
    assert_allclose(precision(parts), precision(once), rtol=1e-9)


def test_the_truth_is_found_and_what_is_forgotten_falls_back_to_the_prior() -> None:
    rng = np.random.default_rng(1)
    w, phi = np.array([0.5, 2.0, -1.0]), rng.normal(size=(5000, 3))
    head = BayesianHead(2)
    update(head, phi, phi @ w + rng.normal(size=5000))
    assert_allclose(head.mean, w, atol=0.06)
    for _ in range(400):
        update(head, np.zeros((1, 3)), np.zeros(1), bandit_decay=0.9)
    assert_allclose(head.mean, np.ones(3), atol=1e-6)
    assert_allclose(precision(head), np.eye(3) / PRIOR_SD**2, atol=1e-9)


def test_a_million_observations_in_one_direction_leave_it_sound() -> None:
    """The rest of the space is never seen: its precision must stay the prior's, however large the seen one's grows."""
    head = BayesianHead(2)
    phi = np.tile([[1.0, 1.0, 0.0]], (1000, 1))
    for _ in range(1000):
        update(head, phi, np.full(1000, 3.0))
    assert np.isfinite(head.factor.numpy()).all()
    assert_allclose(np.linalg.eigvalsh(precision(head)), [4, 4, 4 + 2e6], rtol=1e-3)
    assert_allclose(head.mean.numpy() @ [1, 1, 0], 3, rtol=1e-5)


def test_many_forgetting_updates_stay_bounded() -> None:
    head = BayesianHead(2)
    rng = np.random.default_rng(2)
    for _ in range(3000):
        update(head, rng.normal(size=(4, 3)), rng.normal(size=4), bandit_decay=0.9)
    assert np.linalg.eigvalsh(precision(head)).max() < 4 + 10 * 4 * 5
    assert np.linalg.eigvalsh(precision(head)).min() > 0.4


def test_what_is_not_finite_changes_nothing() -> None:
    head = BayesianHead(1)
    with pytest.raises(DataError, match="expected finite features and rewards, got 1 and 1 rows that are not"):
        update(head, np.array([[1.0, np.nan], [1.0, 1.0]]), np.array([0.0, np.inf]))
    assert_allclose(head.mean, [1, 1])
