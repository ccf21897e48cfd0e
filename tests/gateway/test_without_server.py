"""A gateway over real sockets whose model server is killed: searches are answered on."""
import os
import signal
from pathlib import Path

import pytest

from tests.gateway.routing.words import Searched
from tests.gateway.world import World, items
from tests.model_server.tiny import ITEMS, save_two
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.model_server.options import ServeOptions
from tfrec.model_server.process import ServerProcess, free_port

TITLES = ("heat", "inception", "interstellar", "memento", "tenet")


@pytest.mark.usefixtures("forked")
def test_when_the_model_server_is_killed_the_words_of_a_query_answer(tmp_path: Path) -> None:
    films = Catalogue([Item(id=item, text=title) for item, title in zip(ITEMS, TITLES, strict=True)])
    options = ServeOptions(port=free_port(), model_config_file=str(save_two(tmp_path / "models")),
                           allow_version_labels_for_unavailable_models=True)
    with ServerProcess(options) as server:
        world = World(tmp_path, server.address)
        try:
            world.prior, world.is_fresh = Searched(films, tmp_path / "version").version, True
            asked = {"query": "memetno", "k": 3}
            before = world.http.post("/v1/search", json=asked).raise_for_status().json()
            os.kill(server.pid, signal.SIGKILL)
            after = world.http.post("/v1/search", json=asked).raise_for_status().json()
        finally:
            world.close()
    assert (before["model_version"] > 0, before["policy"]) == (True, "greedy")
    assert (after["model_version"], after["policy"]) == (0, "words")
    assert after["fallback"] == "the model server does not answer"
    assert items(after)[0] == "d"
    assert len(items(after)) == 3
