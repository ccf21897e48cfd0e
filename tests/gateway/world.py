"""A gateway that listens on a socket, with a model server behind it and a log of its own."""
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.model_server.tiny import ITEMS
from tfrec.client.client import Client
from tfrec.config import Config, GatewayConfig, ReviewConfig, RewardConfig
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.feedback_log.writer import LogWriter
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.people.pseudonym import Pseudonyms
from tfrec.erasure.journal import Receipt
from tfrec.gateway.app import create_app
from tfrec.gateway.arms.assigned import Experiments
from tfrec.gateway.console.console import Console
from tfrec.gateway.fleet.peers import NoPeers, Peers
from tfrec.gateway.history import UserHistories
from tfrec.gateway.http.declared_features import DeclaredFeatures
from tfrec.gateway.http.keys import Keys
from tfrec.gateway.http.time_limits import TimeLimits
from tfrec.gateway.metrics import Metrics
from tfrec.gateway.popularity_by_label import PopularityByLabel
from tfrec.gateway.readiness import Readiness
from tfrec.gateway.routing.router import Router
from tfrec.gateway.rules.held_items import HeldItems
from tfrec.gateway.rules.rules_file import RulesFile
from tfrec.gateway.serve import make_server
from tfrec.gateway.verbs import Gateway
from tfrec.model_server.process import free_port
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.release.popularity_files import write_prior

NOW = 1_700_000_000
KEY_BYTES = b"0123456789abcdef"
KEY = Pseudonyms(KEY_BYTES)


class World:
    """A gateway that listens; `rows` are what its log holds."""

    def __init__(self, root: Path, model_server: str, settings: GatewayConfig | None = None, *,
                 counted: RewardConfig | None = None, limits: TimeLimits | None = None, ready_seconds: float = 1.0,
                 peers: Peers | None = None, writer: str = "gateway", features: DeclaredFeatures | None = None,
                 heads: Sequence[str] = (), forget: Callable[[str], Receipt] | None = None,
                 kept_query: Callable[[str], str] = str, hold: bool = True) -> None:
        settings = settings or GatewayConfig()
        self.now = NOW + 0.9
        self.is_fresh = False  # else outcomes move scores in every test
        self.log = FeedbackLog(root / "log")
        self.people = Pseudonyms(KEY_BYTES)
        self.writer = LogWriter(self.log, WriteAheadFile(root / "wal", writer), erased_among=self.people.erased_among)
        self.client = Client(model_server, model="tiny", timeout=5.0)
        self.prior = root / "prior"
        self.prior.mkdir(exist_ok=True)
        prior = PopularityPrior(len(ITEMS))
        prior.update([0, 1, 2, 3, 4], [50, 50, 50, 50, 50])
        write_prior(self.prior, prior, ITEMS)
        self.metrics = Metrics()
        self.popularity = PopularityByLabel(settings, metrics=self.metrics, limit=1,
                                            version_dir=lambda _: self.prior if self.is_fresh else None)
        self.experiments = Experiments(settings)
        config = Config(run=root / "run", review=ReviewConfig(hold=hold))
        self.rules = RulesFile(settings.rules, version_dir=lambda: self.prior, metrics=self.metrics, look_seconds=0,
                               held=HeldItems(config, metrics=self.metrics, look_seconds=0).ids)
        self.gateway = Gateway(
            self.writer,
            Router(self.client, settings, popularity=self.popularity, metrics=self.metrics, wall=lambda: self.now),
            popularity=self.popularity,
            histories=UserHistories(None if counted is None else LabelRule.of_rewards(counted, None), events=3),
            pseudonyms=self.people,
            metrics=self.metrics,
            peers=peers,
            features=features,
            heads=heads,
            rules=self.rules,
            explore=settings.explore,
            experiments=self.experiments,
            kept_query=kept_query,
            clock=lambda: self.now,
        )
        self.peers = peers or NoPeers()
        self.gateway.follow_peers()
        port = free_port()
        keys = Keys(settings.keys, rate=settings.rate)
        readiness = Readiness(self.client, self.writer, peers=peers, rules=self.rules, hold_seconds=ready_seconds)
        app = create_app(self.gateway, readiness, max_k=10, metrics=self.metrics, keys=keys, config=settings, limits=limits,
                         forget=forget, console=Console(config))
        self.server = make_server(app, host="127.0.0.1", port=port, config=settings, metrics=self.metrics, limits=limits)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10.0)

    def rows(self, kind: Any) -> list[dict[str, Any]]:
        self.writer.flush()
        return sorted(self.log.read(kind).to_pylist(), key=lambda row: (row["seq"], row.get("position", 0)))

    def close(self) -> None:
        self.http.close()
        self.server.should_exit = True
        self.thread.join()
        self.peers.close()
        self.client.close()
        self.writer.close()


Make = Callable[..., World]


def ask(world: World, **body: Any) -> dict[str, Any]:
    """The answer to a recommendation for user "u"."""
    answer: dict[str, Any] = world.http.post("/v1/recommend", json={"user": "u", "k": 2, **body}).raise_for_status().json()
    return answer


def popular(world: World, *, hidden: tuple[str, ...] = ()) -> None:
    """Let the newest version's counts be e 5, d 4, c 3, b 2, a 1."""
    prior = PopularityPrior(len(ITEMS))
    prior.update([place for place in range(5) for _ in range(place + 1)], [NOW] * 15)
    write_prior(world.prior, prior, ITEMS, hidden=hidden)
    world.is_fresh = True


def items(answer: dict[str, Any]) -> list[str]:
    return [shown["item"] for shown in answer["items"]]
