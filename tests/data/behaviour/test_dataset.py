"""A catalogue and behaviour read together: what each lacks of the other is told, and where a file comes from."""
import json
import logging

import pytest

from tfrec.config import Config, DataConfig
from tfrec.data.behaviour.dataset import read_dataset
from tfrec.errors import DataError, UsageError


@pytest.fixture
def files(tmp_path):
    items, events = tmp_path / "items.jsonl", tmp_path / "events.csv"
    items.write_text("".join(json.dumps({"id": name, "text": name}) + "\n" for name in ("a", "b")))
    events.write_text("user,item,time\nu,a,5\nu,new,6\nv,b,7\n")
    return items, events


def test_events_of_unknown_items_are_left_out_and_told(files, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        catalogue, inter = read_dataset(Config(run=tmp_path), *files, skip_bad_rows=False, command="train")
    assert (catalogue.ids.tolist(), len(inter)) == (["a", "b"], 2)
    assert f"1 events name items that are not in {files[0]}; they are left out" in caplog.text


def test_or_they_are_candidates_without_text(files, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        catalogue, inter = read_dataset(Config(run=tmp_path), *files, skip_bad_rows=False, command="evaluate",
                                        with_unknown_items=True)
    assert (catalogue.ids.tolist(), len(inter), catalogue.texts[2]) == (["a", "b", "new"], 3, "")
    assert inter.items == ("a", "b", "new")
    assert "1 items of" in caplog.text


def test_the_files_of_the_configuration_are_the_default(files, tmp_path):
    config = Config(run=tmp_path, data=DataConfig(items=files[0], interactions=files[1]))
    assert len(read_dataset(config, skip_bad_rows=False, command="train")[1]) == 2
    with pytest.raises(UsageError, match="train needs a catalogue and interactions: pass --items FILE"):
        read_dataset(Config(run=tmp_path), files[0], skip_bad_rows=False, command="train")


def test_bad_rows_stop_it_or_are_set_aside_by_the_commands_name(files, tmp_path, caplog):
    with files[1].open("a") as out:
        out.write("w,a,yesterday\n")
    with pytest.raises(DataError, match="line 5"):
        read_dataset(Config(run=tmp_path), *files, skip_bad_rows=False, command="train")
    with caplog.at_level(logging.WARNING):
        assert len(read_dataset(Config(run=tmp_path), *files, skip_bad_rows=True, command="train")[1]) == 2
    assert "yesterday" in (tmp_path / "quarantine-train.jsonl").read_text()
