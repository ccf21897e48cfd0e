"""Metrics against values worked by hand."""
import numpy as np

from tfrec.evaluation.metrics import auc, catalogue_coverage, hits, intra_list_diversity, ndcg


def test_hits_counts_half_ranks_on_the_far_side() -> None:
    assert hits([1, 10, 10.5, 11], k=10).tolist() == [1, 1, 0, 0]


def test_ndcg_is_one_over_the_log_of_the_position() -> None:
    # rank 1: 1/log2(2); rank 3: 1/log2(4); rank 7: 1/log2(8); rank 11: beyond k
    np.testing.assert_allclose(ndcg([1, 3, 7, 11], k=10), [1, 1 / 2, 1 / 3, 0], rtol=1e-12)


def test_auc_is_the_share_of_others_beaten() -> None:
    # of 5 candidates: the first beats all 4 others, rank 2.5 beats 2 and ties with 1, the last beats none
    assert auc([1, 2.5, 5], [5, 5, 5]).tolist() == [1, 0.625, 0]
    assert auc([1], [1]).tolist() == [0.5]


def test_catalogue_coverage_counts_distinct_items() -> None:
    assert catalogue_coverage([[0, 1], [1, 3], [3, -1]], n_items=6) == 0.5
    assert catalogue_coverage(np.empty((0, 2), int), n_items=0) == 0


def test_intra_list_diversity_is_the_mean_distance_of_pairs() -> None:
    vectors = [[2, 0], [0, 1], [-1, 0], [0, 0]]
    # cosines: (0,1) 0, (0,2) -1, (1,2) 0 -> distances 1, 2, 1; a vector of zeros is at distance 1 from all
    found = intra_list_diversity([[0, 1, 2], [0, 0, -1], [0, 3, -1], [1, -1, -1]], vectors)
    np.testing.assert_allclose(found, [4 / 3, 0, 1, np.nan], atol=1e-12)
