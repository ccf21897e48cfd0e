"""A retrain goes on from a version that has learnt from nobody who was erased, and publishes nothing if one is meanwhile."""
import json
import shutil
from pathlib import Path
from unittest import mock

import pytest

from tests.retrain.test_job import NOW, VERIFY, cheap, published  # noqa: F401  fixtures
from tests.retrain.test_outdated import LATER, acts
from tfrec.config import Config
from tfrec.data.people.erasures import Erasures, load_people
from tfrec.data.settled.examples import SettledExamples
from tfrec.erasure.forget import forget, listed
from tfrec.erasure.versions import traces
from tfrec.release.manifest import CHECKPOINT, read_manifest
from tfrec.retrain import PROMOTED, WAITING, retrain
from tfrec.retrain import job as job_module


def test_the_next_run_goes_on_without_them(published: Config, tmp_path: Path,  # noqa: F811
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(published.run, tmp_path / "run")
    open_gate = {"gate_floor": 0.0, "forget_margin": 1.0, "search_margin": 1.0, "keep_share": 0.0}
    config = published.model_copy(update={
        "run": tmp_path / "run", "retrain": published.retrain.model_copy(update=open_gate)})
    acting = dict.fromkeys(f"u{n}" for n in range(7))
    monkeypatch.setattr("tfrec.data.people.pseudonym.Pseudonyms.names", names_as_they_are)
    monkeypatch.setattr("tfrec.erasure.run_files.still_named", lambda *_, **__: [])  # these are in bytes of any file by chance
    real = job_module.export

    def erased_meanwhile(*words: object, **named: object) -> Path:
        forget(config, "u3", now=NOW, wait=False)
        return real(*words, **named)

    with mock.patch(VERIFY):
        assert retrain(config, now=NOW).outcome == PROMOTED  # version 2 has learnt from all
        receipt = forget(config, "u1", now=NOW)
        assert receipt.versions.keys() == {2}
        held = json.loads((config.models_dir / "2" / CHECKPOINT / "checkpoint.json").read_text())["meta"]["held_back"]
        assert held
        assert {user for user, _ in held} <= acting.keys() - {"u1"}
        acts(config, LATER, shift=37)
        with mock.patch.object(job_module, "export", erased_meanwhile):
            result = retrain(config, now=LATER)
        assert (result.outcome, result.reason) == (
            WAITING, "somebody was erased while this ran: nothing is published. Left for the next run.")
        assert [one["waits_for"] for one in listed(config)] == [[], []]  # the run has finished what waited for it

        result = retrain(config, now=LATER + 10)
    assert (result.outcome, result.version) == (PROMOTED, 3), result.reason
    manifest = read_manifest(config.models_dir / "3")
    assert (manifest.parent, manifest.erasures, manifest.traces) == (1, 2, ())
    assert traces(manifest, Erasures(config.log_uri).read(load_people(config))) == []
    assert listed(config)[0]["versions"] == [2]
    users = set(SettledExamples(config.examples_uri).query("SELECT user FROM settled")["user"].to_pylist())
    assert users - {None} == acting.keys() - {"u1", "u3"}


def names_as_they_are(people: object, user: str) -> list[str]:
    """The users of this log have their ids as pseudonyms."""
    return [user]
