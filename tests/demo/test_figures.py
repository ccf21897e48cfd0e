"""The figures of the demo's report."""
from typing import Any
from unittest import mock

import numpy as np
import pytest

from tests.graph import tiny_recommender as tiny
from tfrec.client.client import Client, Recommendation
from tfrec.client.inputs import recommend_inputs
from tfrec.demo.figures import server_agreement
from tfrec.model_server.saved_model import SavedModel
from tfrec.models.recommender import Recommender


@pytest.fixture
def client(served: SavedModel) -> Client:
    """Asks the export in this process."""
    def recommend(**asked: Any) -> list[Recommendation]:
        found = served.run("recommend", recommend_inputs(**asked))
        rows = zip(found["items"], found["scores"].tolist(), strict=True)
        return [Recommendation(tuple(item.decode() for item in items), tuple(scores), 3) for items, scores in rows]

    client = mock.create_autospec(Client, instance=True)
    client.recommend.side_effect = recommend
    return client


def test_a_server_agrees_with_the_model_that_it_has_loaded_and_with_no_other(client: Client, model: Recommender) -> None:
    inter = tiny.interactions(model.catalogue)
    events = np.arange(100, 300)
    assert server_agreement(client, model, inter, events) < 1e-4
    beta = model.model.beta.numpy()
    model.model.beta.assign(beta + 0.1)
    try:
        assert server_agreement(client, model, inter, events) > 0.01
    finally:
        model.model.beta.assign(beta)  # others read it as well
