"""A small log of literal times: the attribution window is 100 s, a click is worth 1, a purchase 5."""
from collections import Counter
from dataclasses import replace

from tfrec.config import RewardConfig
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.labels.join import join
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.records import Impression, Outcome, Shown

SHOP = RewardConfig(weights={"click": 1.0, "purchase": 5.0})
ITEMS = ("a", "b", "c", "d")


class World:
    """A log that is written by one writer unless said otherwise, and committed when a window is asked for."""

    def __init__(self, root):
        self.log = FeedbackLog(root)
        self.seq = Counter()
        self.waiting = []

    def write(self, kind, record, writer):
        self.seq[writer] += 1
        self.waiting.append((kind, writer, self.seq[writer], record.model_dump_json()))

    def window(self, after, *, now):
        for kind, writer in sorted({(kind, writer) for kind, writer, _, _ in self.waiting}):
            records = [(seq, record) for *of, seq, record in self.waiting if of == [kind, writer]]
            self.log.append(kind, records, writer=writer)
        self.waiting = []
        return self.log.window(after, now=now)

    def show(self, request, time, *items, user="u", writer="w", **fields):
        slate = [Shown(item=item, position=k, score=1.0, log_propensity=0.0) for k, item in enumerate(items)]
        given = {"request_id": request, "time": time, "user": user, "slate": slate, "policy": "greedy", "model_version": 3}
        self.write("impressions", Impression(**given, **fields), writer)

    def act(self, event, time, item, action="click", *, user="u", request=None, value=1.0, writer="w"):
        given = {"event_id": event, "time": time, "user": user, "item": item, "action": action, "value": value}
        self.write("outcomes", Outcome(**given, request_id=request), writer)

    def join(self, window, *, reward=SHOP, items=ITEMS, quarantine=None, log=None, lengths=None):
        """The examples, in the order of time."""
        rule = LabelRule(tuple(items), 100, reward, lengths or {})
        found = join(log or self.log, window, rule, quarantine=quarantine)
        return replace(found, table=found.table.sort_by([("time", "ascending"), ("example_id", "ascending")]))


def brief(examples):
    return [(e["example_id"], e["time"], e["action"], e["reward"]) for e in examples.table.to_pylist()]
