"""Gateways that end with their test."""
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.world import Make, World
from tests.model_server.tiny import Running
from tfrec.config import GatewayConfig
from tfrec.erasure.journal import Receipt
from tfrec.gateway.http.time_limits import TimeLimits
from tfrec.model_server.process import free_port


@pytest.fixture
def make(tmp_path: Path, server: Running) -> Iterator[Make]:
    """Make a gateway; `down`: whose model server is down; other settings are those of `gateway`."""
    worlds = []

    def made(*, down: bool = False, limits: TimeLimits | None = None, heads: Sequence[str] = (),
             forget: Callable[[str], Receipt] | None = None, hold: bool = True, **settings: Any) -> World:
        address = f"127.0.0.1:{free_port()}" if down else server.grpc
        worlds.append(World(tmp_path, address, GatewayConfig(**settings), limits=limits, heads=heads, forget=forget,
                            hold=hold))
        return worlds[-1]

    yield made
    for world in worlds:
        world.close()


@pytest.fixture
def world(make: Make) -> World:
    """A gateway with the usual settings."""
    return make()
