"""A gateway that listens on a socket, with a model server behind it and a log of its own."""
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from tests.model_server.tiny import ITEMS
from tfrec.client.client import Client
from tfrec.config import GatewayConfig, RewardConfig
from tfrec.data.feedback_log.log import FeedbackLog, LogWriter
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.labels.label_rule import LabelRule
from tfrec.gateway.app import create_app, make_server
from tfrec.gateway.history import UserHistories
from tfrec.gateway.http.keys import Keys
from tfrec.gateway.metrics import Metrics
from tfrec.gateway.pseudonym import Pseudonyms
from tfrec.gateway.router import Models
from tfrec.gateway.verbs import Gateway
from tfrec.model_server.process import free_port
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.release.popularity_files import write_prior

NOW = 1_700_000_000
KEY = Pseudonyms(b"0123456789abcdef")


class World:
    """A gateway that listens; `rows` are what its log holds."""

    def __init__(self, root: Path, model_server: str, settings: GatewayConfig | None = None, *,
                 counted: RewardConfig | None = None) -> None:
        settings = settings or GatewayConfig()
        self.now = NOW + 0.9
        self.is_fresh = False  # else outcomes move scores in every test
        self.log = FeedbackLog(root / "log")
        self.writer = LogWriter(self.log, WriteAheadFile(root / "wal", "gateway"))
        self.client = Client(model_server, model="tiny", timeout=5.0)
        self.prior = root / "prior"
        self.prior.mkdir()
        prior = PopularityPrior(len(ITEMS))
        prior.update([0, 1, 2, 3, 4], [50, 50, 50, 50, 50])
        write_prior(self.prior, prior, ITEMS)
        self.metrics = Metrics()
        self.models = Models(
            self.client, settings, metrics=self.metrics, fresh_items=1,
            version_dir=lambda _: self.prior if self.is_fresh else None, wall=lambda: self.now,
        )
        self.gateway = Gateway(
            self.client,
            self.writer,
            self.models,
            pseudonyms=KEY,
            behaviour=UserHistories(None if counted is None else LabelRule.of_rewards(counted, None), events=3),
            metrics=self.metrics,
            history=3,
            explore=settings.explore,
            clock=lambda: self.now,
        )
        port = free_port()
        keys = Keys(settings.keys, rate=settings.rate)
        app = create_app(self.gateway, max_k=10, metrics=self.metrics, keys=keys, config=settings)
        self.server = make_server(app, host="127.0.0.1", port=port, config=settings, metrics=self.metrics)
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
        self.client.close()
        self.writer.close()


def items(answer: dict[str, Any]) -> list[str]:
    return [shown["item"] for shown in answer["items"]]
