"""Item-kNN and both forms of EASE, by hand and against the dense matrices they stand for."""
import numpy as np
import pytest

from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.evaluation.ease import EaseByItems, EaseByUsers, fit_ease
from tfrec.evaluation.item_knn import ItemKnn
from tfrec.evaluation.training_matrix import TrainingMatrix

ONE_ROW = 1  # bytes of a block: less than a row takes


def training(log: Interactions, *, end: int) -> TrainingMatrix:
    return TrainingMatrix.of(log, end=end, histories=Histories(log))


def drawn(*, users: int, items: int, n: int) -> Interactions:
    rng = np.random.default_rng(4)
    codes = rng.integers(0, users, n), (rng.random(n) ** 2 * items).astype(int)
    return Interactions.from_columns(*([str(code) for code in column] for column in codes), time=np.arange(n))


def dense_scores(log: Interactions, weights: np.ndarray, *, event: int) -> np.ndarray:
    """The definition: `weights` `[n_items, n_items]` summed over the history, the newest first."""
    history = Histories(log).of(event)[::-1][:50]
    return sum((0.8**back * weights[log.item[past]] for back, past in enumerate(history)), np.zeros(len(log.items)))


def test_two_items_by_hand() -> None:
    # users: {a, b}, {a}, {b}, {b} -> G = [[2, 1], [1, 3]], (G + 100 I)^-1 = [[103, -1], [-1, 102]] / 10505
    log = Interactions.from_columns(["1", "1", "2", "3", "4", "2", "4"], list("ababbba"), [1, 2, 3, 4, 5, 6, 7], items=["a", "b"])
    fitted = training(log, end=5)
    asked = np.array([5, 6])  # b after a, a after b
    np.testing.assert_allclose(ItemKnn.fit(fitted)(asked), [[0, 6**-0.5], [6**-0.5, 0]], rtol=1e-12)
    scorer = fit_ease(fitted)
    assert isinstance(scorer, EaseByItems)
    np.testing.assert_allclose(scorer(asked), [[0, 1 / 102], [1 / 103, 0]], atol=1e-15)


def test_ease_by_users_by_hand() -> None:
    # one user of a, b and c: (1 + 100 I)^-1 has 102 / 10300 on the diagonal and -1 / 10300 beside it; d is in no training event
    log = Interactions.from_columns(list("uuuvv"), list("abcab"), [1, 2, 3, 4, 5], items=["d", "a", "b", "c"])
    scorer = fit_ease(training(log, end=3))
    assert isinstance(scorer, EaseByUsers)
    np.testing.assert_allclose(scorer(np.array([3, 4])), [[0, 0, 0, 0], [0, 0, 1 / 102, 1 / 102]], atol=1e-17)


@pytest.mark.parametrize(("users", "items"), [(12, 40), (60, 25), (1, 3), (4, 1)])
def test_both_forms_of_ease_are_the_dense_formula(users: int, items: int) -> None:
    log = drawn(users=users, items=items, n=600)
    end, asked = int(0.7 * len(log)), np.arange(len(log))
    x = np.zeros((len(log.users), len(log.items)))
    x[log.user[:end], log.item[:end]] = 1
    weights = np.linalg.inv(x.T @ x + 100 * np.eye(len(log.items)))
    weights /= -np.diag(weights)
    np.fill_diagonal(weights, 0)
    expected = [dense_scores(log, weights, event=event) for event in asked]
    for scorer in (fit_ease(training(log, end=end)), fit_ease(training(log, end=end), block_bytes=ONE_ROW)):
        assert isinstance(scorer, EaseByUsers if users < items else EaseByItems)
        np.testing.assert_allclose(scorer(asked), expected, rtol=1e-9, atol=1e-14)


def test_items_with_the_same_users_tie_exactly_by_users() -> None:
    rng = np.random.default_rng(0)
    rows = [(user, item) for user in range(20) for item in rng.choice(40, 9, replace=False)]
    user, item = np.array(rows + [(user, item + 40) for user, item in rows]).T  # each item has a twin
    user, item = np.append(user, [20, 20]), np.append(item, [3, 4])
    names = [str(code) for code in range(80)]
    log = Interactions.from_columns([str(u) for u in user], [str(i) for i in item], np.arange(len(user)), items=names)
    scores = fit_ease(training(log, end=len(log) - 2))(np.array([len(log) - 1]))[0]
    twins = np.delete(np.arange(40), 3)
    assert scores[twins].any()
    np.testing.assert_array_equal(scores[twins], scores[twins + 40])


@pytest.mark.parametrize("block_bytes", [ONE_ROW, 64 << 20])
def test_neighbours_are_those_that_reach_the_last_one_kept_ties_included(block_bytes: int) -> None:
    log = drawn(users=15, items=30, n=400)
    end, asked = int(0.7 * len(log)), np.arange(len(log))
    x = np.zeros((len(log.users), len(log.items)))
    x[log.user[:end], log.item[:end]] = 1
    norm = np.sqrt(np.maximum(x.sum(axis=0), 1))
    cosine = (x.T @ x) / np.outer(norm, norm)
    np.fill_diagonal(cosine, 0)
    cosine[cosine < np.sort(cosine, axis=0)[-3]] = 0
    assert (np.count_nonzero(cosine, axis=0) > 3).any()
    expected = [dense_scores(log, cosine, event=event) for event in asked]
    found = ItemKnn.fit(training(log, end=end), neighbours=3, block_bytes=block_bytes)
    np.testing.assert_allclose(found(asked), expected, rtol=1e-12)
