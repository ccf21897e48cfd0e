"""A version that the model server's configuration names outlives every newer one."""
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.config import Config, GatewayConfig, ServingConfig
from tfrec.release.publish import versions
from tfrec.release.retention import retire, warn_of_labels


def published(run: Path, numbers: int) -> Path:
    for number in range(1, numbers + 1):
        (run / "models" / "tfrec" / str(number)).mkdir(parents=True)
    return run


def models_config(path: Path, base: Path, *, specific: list[int], labels: dict[str, int], name: str = "tfrec") -> Path:
    chosen = " ".join(f"versions: {number}" for number in specific)
    policy = f"specific {{ {chosen} }}" if specific else "latest { num_versions: 1 }"
    named = " ".join(f'version_labels {{ key: "{label}" value: {number} }}' for label, number in labels.items())
    path.write_text(f"""model_config_list {{ config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow"
        model_version_policy {{ {policy} }} {named} }} }}""")
    return path


@given(specific=st.lists(st.integers(1, 12), max_size=4, unique=True), keep=st.integers(2, 5),
       labels=st.dictionaries(st.sampled_from(["stable", "canary", "last good"]), st.integers(1, 12)))
def test_a_version_that_is_named_stays(tmp_path_factory: pytest.TempPathFactory, specific: list[int], keep: int,
                                       labels: dict[str, int]) -> None:
    run = published(tmp_path_factory.mktemp("run"), 12)
    file = models_config(run / "models.config", Path("/srv/run/models/tfrec"), specific=specific, labels=labels)
    config = Config(run=run, serving=ServingConfig(keep_versions=keep, models_config=file))
    removed = retire(config)
    named = {*specific, *labels.values()}
    newest = set(range(13 - keep, 13))
    assert set(versions(config.models_dir)) == named | newest
    assert set(removed) == set(range(1, 13)) - named - newest


@pytest.mark.parametrize("gateway", [GatewayConfig(stable_label="stable"), GatewayConfig(canary_share=0.05)])
def test_nothing_is_removed_while_labels_are_in_use_and_nobody_says_which(
        tmp_path: Path, gateway: GatewayConfig, caplog: pytest.LogCaptureFixture) -> None:
    config = Config(run=published(tmp_path, 9), gateway=gateway)
    assert retire(config) == []
    assert "Set serving.models_config to that file" in caplog.text
    assert len(versions(config.models_dir)) == 9


@pytest.mark.parametrize("said", ["model_config_list { config { nam", "custom_model_config {}", None])
def test_nothing_is_removed_when_the_file_cannot_be_read(
        tmp_path: Path, said: str | None, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "models.config"
    if said is not None:
        file.write_text(said)
    config = Config(run=published(tmp_path, 9), serving=ServingConfig(models_config=file))
    assert (retire(config), len(versions(config.models_dir))) == ([], 9)
    assert "no old version is removed" in caplog.text


def test_without_labels_the_newest_stay(tmp_path: Path) -> None:
    config = Config(run=published(tmp_path, 9))
    assert (retire(config), versions(config.models_dir)) == ([1, 2, 3, 4], [5, 6, 7, 8, 9])


@pytest.mark.parametrize(("gateway", "said"), [
    (GatewayConfig(stable_label="stabel"), "gateway.stable_label: {file} names no label 'stabel' (nearest: 'stable'). Until"),
    (GatewayConfig(canary_share=0.1, canary_label="next"), "gateway.canary_label: {file} names no label 'next'. Until"),
    (GatewayConfig(stable_label="stable", canary_label="next"), ""),
])
def test_a_label_that_nothing_is_served_under_is_told_with_the_nearest(
        tmp_path: Path, gateway: GatewayConfig, said: str, caplog: pytest.LogCaptureFixture) -> None:
    file = models_config(tmp_path / "models.config", Path("/srv"), specific=[], labels={"stable": 1, "canary": 2})
    warn_of_labels(Config(run=tmp_path, serving=ServingConfig(models_config=file), gateway=gateway))
    assert said.format(file=file) in caplog.text
    assert bool(said) == bool(caplog.text)
