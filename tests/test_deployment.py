"""The files of serving/ fit one another, the programs that read them, and what these programs export."""
import configparser
import json
import re
import shlex
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml
from google.protobuf import text_format
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from tfrec.cli.app import app
from tfrec.config import load_config
from tfrec.model_server.options import parse_flags
from tfrec.model_server.text_protos import read_batching, read_metrics_path, read_models

FILES = Path(__file__).parent.parent / "serving"
COMPOSE = yaml.safe_load((FILES / "docker-compose.yml").read_text())
RUNBOOK = (FILES / "RUNBOOK.md").read_text()
SERVICES = COMPOSE["services"]
CONFIG = load_config(FILES / "shop.toml")


def mounts(service: str) -> dict[str, Path]:
    """Path in the container -> file of this directory."""
    pairs = [volume.split(":")[:2] for volume in SERVICES[service]["volumes"] if isinstance(volume, str)]
    return {inside: FILES / outside for outside, inside in pairs if outside.startswith("./")}


def test_the_compose_file_fits_its_schema() -> None:
    schema = json.loads(resources.files("check_jsonschema.builtin_schemas.vendor").joinpath("compose-spec.json").read_text())
    jsonschema.validate(COMPOSE, schema)


def test_it_is_closed_by_default_and_each_service_has_what_it_needs_alone() -> None:
    for name, service in SERVICES.items():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
        assert service["mem_limit"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    (models,) = [volume for volume in SERVICES["model-server"]["volumes"] if not isinstance(volume, str)]
    assert (models["target"], models["read_only"], models["volume"]["subpath"]) == ("/srv/run/models", True, "models")
    assert all(not volume.startswith("run:") for volume in SERVICES["model-server"]["volumes"] if isinstance(volume, str))
    assert "chown -R tfrec:tfrec /srv/run" in (FILES / "Dockerfile").read_text()


def test_the_gateway_asks_less_at_once_than_the_model_server_answers() -> None:
    options, _ = parse_flags(SERVICES["model-server"]["command"])
    assert 2 * CONFIG.gateway.max_in_flight < options.grpc_max_threads


def test_every_mounted_file_is_there() -> None:
    found = [path for service in SERVICES for path in mounts(service).values()]
    assert len(found) == 9
    assert [path for path in found if not path.is_file()] == []


def test_the_model_server_is_of_the_minor_version_that_writes_the_graph() -> None:
    pinned = re.search(r"^ *tensorflow>=([\d.]+),", (FILES.parent / "setup.cfg").read_text(), re.MULTILINE)
    image = re.fullmatch(r"tensorflow/serving:(\d+\.\d+)\.\d+", SERVICES["model-server"]["image"])
    assert pinned
    assert image
    assert image[1] == pinned[1]


def test_the_model_servers_flags_are_those_of_tfrec_serve() -> None:
    options, unknown = parse_flags(SERVICES["model-server"]["command"])
    assert unknown == []
    inside = mounts("model-server")
    batching = read_batching(str(inside[options.batching_parameters_file]))
    assert batching.pad_variable_length_inputs
    assert batching.max_batch_size >= 32
    assert read_metrics_path(str(inside[options.monitoring_config_file])) == scraped("model-server")["metrics_path"]
    (model,) = read_models(str(inside[options.model_config_file])).model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (
        CONFIG.serving.model_name, str(CONFIG.models_dir), "tensorflow")


def test_the_canary_of_the_runbook_is_configured(tmp_path: Path) -> None:
    (canary,) = re.findall(r"```\n(model_version_policy .*?)```", RUNBOOK, re.DOTALL)
    text = (FILES / "models.config").read_text().replace("model_version_policy { latest { num_versions: 1 } }", canary)
    (model,) = text_format.Parse(text, ModelServerConfig()).model_config_list.config
    assert dict(model.version_labels) == {"stable": 41, "canary": 42}
    assert list(model.model_version_policy.specific.versions) == [41, 42]
    by_hand, by_itself = re.findall(r"```toml\n(.*?)```", RUNBOOK, re.DOTALL)
    (tmp_path / "shop.toml").write_text(by_hand)
    gateway = load_config(tmp_path / "shop.toml").gateway
    assert (gateway.stable_label, gateway.canary_label, gateway.canary_share) == ("stable", "canary", 0.05)
    (tmp_path / "shop.toml").write_text(by_itself)
    config = load_config(tmp_path / "shop.toml")
    assert (config.gateway.stable_label, config.experiment.canary) == ("stable", 0.1)
    assert config.serving.models_config is not None


def words_of_tfrec() -> list[list[str]]:
    said = [SERVICES[service]["command"] for service in ("gateway", "retrain")]
    return said + [shlex.split(words) for words in re.findall(r"--no-deps gateway (.*)", RUNBOOK)]


@pytest.mark.parametrize("words", words_of_tfrec(), ids=" ".join)
def test_commands_are_understood(words: list[str]) -> None:
    command = typer.main.get_command(app).commands[words[0]]  # type: ignore[attr-defined]
    command.make_parser(command.context_class(command, info_name=words[0])).parse_args(words[1:])


def scraped(job: str) -> dict[str, Any]:
    jobs = yaml.safe_load((FILES / "prometheus.yml").read_text())["scrape_configs"]
    return next(found for found in jobs if found["job_name"] == job)


@pytest.mark.parametrize("job", ["model-server", "gateway"])
def test_prometheus_asks_where_a_service_listens(job: str) -> None:
    ((target,),) = (config["targets"] for config in scraped(job)["static_configs"])
    host, port = target.split(":")
    ports = SERVICES[host].get("expose", []) + [said.split(":")[-1] for said in SERVICES[host].get("ports", [])]
    assert host == job
    assert port in ports


def exported(run: Path) -> set[str]:
    from tfrec.gateway.metrics import Metrics
    from tfrec.gateway.run_metrics import RunWatch
    from tfrec.model_server.metrics import ServerMetrics
    from tfrec.monitors.latest import MONITORS, latest_path

    gateway, server = Metrics(), ServerMetrics()
    (run / "retrain").mkdir()
    (run / "retrain" / "1-a.json").write_text('{"outcome": "rejected"}')
    (run / "monitors").mkdir()
    found = {"state": "ok"} | dict.fromkeys(("value", "change", "low", "high", "bound"), 0.1)
    part = {"part": "0", "reward": 0.1, "action_rate": 0.1}
    latest_path(run).write_text(json.dumps({"looked_at": 1, "monitors": dict.fromkeys(MONITORS, found),
                                            "parts": {"position": [part]}}))
    gateway.registry.register(RunWatch(run))
    gateway.log_behind(lambda: 0)
    with server.request("m", api="predict", entrypoint="GRPC"):
        pass
    text = gateway.text().decode() + server.page()
    return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


def test_every_metric_that_is_named_is_exported(tmp_path: Path) -> None:
    alerts = (FILES / "alerts.yml").read_text()
    parts = r"(?:tfrec_(?:gateway|monitor|retrain|run)_|:tensorflow:serving:)\w+"
    named = set(re.findall(parts, RUNBOOK + alerts)) - {"tfrec_run"}
    assert len(named) > 10
    assert {name.removesuffix("_bucket") for name in named} - exported(tmp_path) == set()


def test_every_alarm_is_explained() -> None:
    rules = [rule for group in yaml.safe_load((FILES / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
    assert all({"alert", "expr", "labels", "annotations"} <= rule.keys() for rule in rules)
    explained = re.findall(r"^\| ([A-Z]\w+) \|", RUNBOOK, re.MULTILINE)
    assert {rule["alert"] for rule in rules} == set(explained)


def test_the_image_is_built_from_files_that_are_there() -> None:
    copied = re.findall(r"^COPY (.*) \S+$", (FILES / "Dockerfile").read_text(), re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    assert names
    assert [name for name in names if not (FILES.parent / name).exists()] == []


def test_the_lock_has_every_requirement_with_hashes_and_no_address() -> None:
    text = (FILES / "requirements.lock").read_text()
    packages = re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE)
    locked = {canonicalize_name(name): version for name, version in packages}
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked)
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text
    setup = configparser.ConfigParser()
    setup.read(FILES.parent / "setup.cfg")
    wanted = [Requirement(line) for line in setup["options"]["install_requires"].splitlines() if line and line[0] != "#"]
    wrong = [str(one) for one in wanted if not one.specifier.contains(locked.get(canonicalize_name(one.name), "0"))]
    assert wrong == []
