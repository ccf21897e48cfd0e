"""Metrics against values worked by hand."""
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfrec.evaluation.metrics import auc, catalogue_coverage, conversion_rate, hits, intra_list_diversity, ndcg, rank_auc


def test_hits_counts_half_ranks_on_the_far_side() -> None:
    assert hits([1, 10, 10.5, 11], k=10).tolist() == [1, 1, 0, 0]


def test_ndcg_is_one_over_the_log_of_the_place() -> None:
    # rank 1: 1/log2(2); rank 3: 1/log2(4); rank 7: 1/log2(8); rank 11: beyond k
    np.testing.assert_allclose(ndcg([1, 3, 7, 11], k=10), [1, 1 / 2, 1 / 3, 0], rtol=1e-12)


def test_rank_auc_is_the_share_of_others_beaten() -> None:
    # of 5 candidates: the first beats all 4 others, rank 2.5 beats 2 and ties with 1, the last beats none
    assert rank_auc([1, 2.5, 5], [5, 5, 5]).tolist() == [1, 0.625, 0]
    assert rank_auc([1], [1]).tolist() == [0.5]


def test_auc_counts_pairs_and_half_of_the_ties() -> None:
    # positives .8 and .4, negatives .6, .4, .1: (.8: 3 wins) + (.4: 0 + half + 1) = 4.5 of 6 pairs
    assert auc([0.8, 0.6, 0.4, 0.4, 0.1], [1, 0, 1, 0, 0]) == 0.75
    assert auc([1, 2], [1, 1]) is None
    assert auc([], []) is None


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30))
def test_auc_is_the_mean_over_pairs(rows: list[tuple[int, bool]]) -> None:
    ours = auc([score for score, _ in rows], [label for _, label in rows])
    pairs = [(a > b) + (a == b) / 2 for a, positive in rows for b, other in rows if positive and not other]
    assert ours is None if not pairs else abs(ours - sum(pairs) / len(pairs)) < 1e-12


def test_conversion_rate_counts_requests_not_rows() -> None:
    # request a has two converted rows of three, b none, c one
    assert conversion_rate(["a", "a", "a", "b", "c", "c"], [True, True, False, False, False, True]) == 2 / 3
    assert conversion_rate([], []) is None


def test_catalogue_coverage_counts_distinct_items() -> None:
    assert catalogue_coverage([[0, 1], [1, 3], [3, -1]], n_items=6) == 0.5
    assert catalogue_coverage(np.empty((0, 2), int), n_items=0) == 0


def test_intra_list_diversity_is_the_mean_distance_of_pairs() -> None:
    vectors = [[2, 0], [0, 1], [-1, 0], [0, 0]]
    # cosines: (0,1) 0, (0,2) -1, (1,2) 0 -> distances 1, 2, 1; a vector of zeros is at distance 1 from all
    found = intra_list_diversity([[0, 1, 2], [0, 0, -1], [0, 3, -1], [1, -1, -1]], vectors)
    np.testing.assert_allclose(found, [4 / 3, 0, 1, np.nan], atol=1e-12)
