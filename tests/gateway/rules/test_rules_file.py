"""The file of rules while a gateway runs: it is read again, a wrong one changes nothing, and another version is asked."""
import logging
import os
from pathlib import Path

import pytest

from tests.gateway.rules.test_applying import request
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.errors import UsageError
from tfrec.gateway.metrics import Metrics
from tfrec.gateway.rules.rules_file import RulesFile
from tfrec.release.manifest import CATALOGUE

PIN = '[[rule]]\nname = "top"\ndo = "pin"\nitems = ["a"]\nposition = 0\n'


class Rules:
    """A file, versions with a catalogue, and what reads them."""

    def __init__(self, root: Path) -> None:
        self.file, self.versions, self.metrics = root / "rules.toml", root / "models", Metrics()
        self.publish(1, "a")
        self.write(PIN)
        self.read = RulesFile(self.file, version_dir=lambda: self.newest, metrics=self.metrics, look_seconds=0)

    def publish(self, number: int, *ids: str) -> None:
        self.newest = self.versions / str(number)
        Catalogue([Item(id=one, text=one) for one in ids]).write(self.newest / CATALOGUE)

    def write(self, text: str) -> None:
        """At another time than before, whatever the file system's clock says."""
        self.file.write_text(text)
        self.writes = getattr(self, "writes", 0) + 1
        os.utime(self.file, ns=(self.writes, self.writes))

    def pinned(self) -> tuple[str, ...]:
        self.read.problem()  # looks
        self.read.wait_until_read()
        asked = self.read.applied(request(), context={}, now=1e9)
        return () if asked.ruled is None else asked.ruled.applied.pinned

    def metric(self, name: str) -> float:
        return float(next(line.split()[-1] for line in self.metrics.text().decode().splitlines() if line.startswith(name)))


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    return Rules(tmp_path)


def test_a_changed_file_holds_without_a_restart(rules: Rules) -> None:
    assert (rules.pinned(), version := rules.read.version) == (("a",), version)
    rules.publish(1, "a", "b")
    rules.write(PIN.replace('"a"', '"b"'))
    assert rules.pinned() == ("b",)
    assert rules.read.version != version
    rules.write("")
    assert rules.pinned() == ()
    assert rules.metric('tfrec_gateway_rules_applied_total{rule="top"}') == 2


def test_a_wrong_file_changes_nothing_and_says_so_once(rules: Rules, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "tfrec")
    version = rules.read.version
    rules.write(PIN.replace("pin", "push"))
    for _ in range(3):
        assert rules.pinned() == ("a",)
    assert "line 1: rule 'top': do:" in rules.read.problem()
    assert (rules.read.version, rules.metric("tfrec_gateway_rules_problem")) == (version, 1)
    [record] = caplog.records
    assert "the rules stay as they were" in record.getMessage()
    rules.write(PIN)
    assert rules.pinned() == ("a",)
    assert (rules.read.problem(), rules.metric("tfrec_gateway_rules_problem")) == ("", 0)


def test_a_file_that_goes_away_and_comes_back(rules: Rules, tmp_path: Path) -> None:
    rules.file.rename(tmp_path / "away")
    assert rules.pinned() == ("a",)
    assert "cannot be read: No such file" in rules.read.problem()
    (tmp_path / "away").rename(rules.file)
    assert (rules.pinned(), rules.read.problem()) == (("a",), "")


def test_another_version_has_other_items(rules: Rules, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "tfrec")
    rules.publish(2, "b")
    assert rules.pinned() == ()
    assert "rule 'top' pins 'a', which version 2 does not have" in caplog.text
    assert rules.metric('tfrec_gateway_rules_skipped_total{reason="unknown",rule="top"}') == 1
    rules.publish(3, "a")
    assert rules.pinned() == ("a",)


def test_a_gateway_does_not_start_with_a_wrong_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gateway\.rules: .*none\.toml cannot be read"):
        RulesFile(tmp_path / "none.toml", version_dir=lambda: None, metrics=Metrics())
    (tmp_path / "wrong.toml").write_text("[[rule]]\n")
    with pytest.raises(UsageError, match="line 1: rule '\\?': name: Field required"):
        RulesFile(tmp_path / "wrong.toml", version_dir=lambda: None, metrics=Metrics())
