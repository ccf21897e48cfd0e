"""A retrain looks at the items of the version that it is about to make, before anything is published."""
from pathlib import Path
from unittest import mock

import pytest

from tests.retrain.test_job import NOW, cheap, config, published  # noqa: F401  fixtures
from tfrec.config import Config
from tfrec.errors import TfrecError
from tfrec.retrain import retrain
from tfrec.review.standing import ReviewState


def test_new_items_wait_before_they_are_published(config: Config, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "terms.toml").write_text('spam = ["casino"]\n')
    (tmp_path / "items.jsonl").write_text('{"id": "new", "text": "a casino"}\n')
    settings = config.model_dump() | {"review": {"terms": tmp_path / "terms.toml"},
                                      "data": {"items": tmp_path / "items.jsonl", "withdraw_at_most": 1.0}}
    with mock.patch("tfrec.retrain.job.take_up_or_begin", side_effect=TfrecError("stopped")):
        with pytest.raises(TfrecError, match="stopped"):
            retrain(Config.model_validate(settings), now=NOW)
        assert [one.flag.item for one in ReviewState.of(config.run).waiting()] == ["new"]
        with pytest.raises(TfrecError, match="stopped"):
            retrain(config, now=NOW)  # without a list there is no scan
