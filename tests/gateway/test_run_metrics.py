"""What is told of the run beside the gateway."""
import os
from pathlib import Path

from tfrec.gateway.run_metrics import RunWatch


def told(run: Path) -> dict[str, float]:
    return {family.name: family.samples[0].value for family in RunWatch(run).collect()}


def test_refused_retrains_are_counted_since_the_last_promotion(tmp_path: Path) -> None:
    assert told(tmp_path)["tfrec_retrain_rejected"] == 0
    assert "tfrec_retrain_ended_seconds" not in told(tmp_path)
    (tmp_path / "retrain").mkdir()
    for at, outcome in enumerate(["rejected", "promoted", "rejected", "waiting", "rejected"]):
        path = tmp_path / "retrain" / f"{at}-x.json"
        path.write_text(f'{{"outcome": "{outcome}"}}')
        os.utime(path, (100 + at, 100 + at))
    (tmp_path / "retrain" / "quarantine-x.jsonl").write_text("{}")
    found = told(tmp_path)
    assert (found["tfrec_retrain_rejected"], found["tfrec_retrain_ended_seconds"]) == (2, 104)
    assert 0 < found["tfrec_run_disk_free_bytes"] <= found["tfrec_run_disk_bytes"]
    (tmp_path / "retrain" / "9-x.json").write_text("")  # being written
    assert told(tmp_path)["tfrec_retrain_rejected"] == 2
