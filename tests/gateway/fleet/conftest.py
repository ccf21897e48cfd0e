"""Redis, and gateways that it connects, all of which end with their test."""
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.fleet.redis_server import PROGRAM, WHY_NOT, RedisServer
from tests.gateway.world import World
from tests.model_server.tiny import Running
from tfrec.gateway.fleet.redis_peers import RedisPeers


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    if PROGRAM is None:
        pytest.skip(WHY_NOT)
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def gateway(tmp_path: Path, server: Running, redis_server: RedisServer) -> Iterator[Callable[[str], World]]:
    """Make a gateway of the run, by its name."""
    worlds = []

    def made(name: str, **settings: Any) -> World:
        peers = RedisPeers(redis_server.url, run="shop", sender=name)
        worlds.append(World(tmp_path, server.grpc, peers=peers, writer=name, ready_seconds=0.0, **settings))
        return worlds[-1]

    yield made
    for world in worlds:
        world.close()
