"""The Helm chart, rendered by Helm: it fits Kubernetes' schemas, the other files of serving/, the commands and the metrics.

What it says of ports, labels, volumes and settings has to agree with itself, which no schema can tell.
"""
import json
import os
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml

import tfrec
from tests.deployment.rendered import CHART, HELM, SERVING, Object, Rendered, helm, ports_of, render
from tests.docs.pages import blocks
from tests.test_deployment import COMPOSE, RUNBOOK, exported
from tfrec.cli.app import app
from tfrec.config import Config, load_config
from tfrec.errors import UsageError
from tfrec.model_server.options import parse_flags
from tfrec.model_server.text_protos import read_metrics_path, read_models

pytestmark = pytest.mark.skipif(HELM is None, reason="no program helm on the PATH; `make` installs one on Linux for x86-64")

EVERYTHING = {
    "settings": {"gateway.explore": True, "data.log": "s3://bucket/log", "retrain.min_events": 1_000_000},
    "env": [{"name": "AWS_REGION", "value": "eu-central-1"}],
    "envFromSecret": "aws",
    "secrets": {"keys": "keys", "pseudonym": "pseudonym", "redis": "redis"},
    "tls": {"server": "server-tls", "client": "client-tls"},
    "data": {"existingClaim": "films"},
    "train": {"enabled": True},
    "monitoring": {"enabled": True, "labels": {"release": "prometheus"}},
    "networkPolicy": {"egress": [{"ports": [{"port": 443}]}], "clients": [], "prometheus": []},
    "scheduling": {"nodeSelector": {"disk": "ssd"}},
    "imagePullSecrets": [{"name": "registry"}],
}
SMALL = ("--set", "gateway.autoscaling.enabled=false,redis.enabled=false,modelServer.replicas=1,run.existingClaim=mine")
TFREC = re.compile(r"^tfrec:")
GATEWAY_APP = (Path(tfrec.__file__).parent / "gateway" / "app.py").read_text()


@pytest.fixture(scope="module", params=["default", "everything", "small"])
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    if request.param == "everything":
        values = tmp_path_factory.mktemp("values") / "values.yaml"
        values.write_text(yaml.safe_dump(EVERYTHING))
        return render("--values", str(values))
    return render(*(SMALL if request.param == "small" else ()))


def test_every_object_fits_the_schema_of_its_kind(release: Rendered) -> None:
    (oldest,) = re.findall(r">=(\d+\.\d+)", yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"])
    versions = {oldest, kubernetes_validate.latest_version()} if "train" in release.of_kind("Job") else {oldest}
    for one in release.objects:
        if "monitoring.coreos.com" not in one["apiVersion"]:  # the operator's own kinds, of which Kubernetes has no schema
            for version in versions:
                kubernetes_validate.validate(one, version, strict=True)
    names = [(one["kind"], one["metadata"]["name"]) for one in release.objects]
    assert len(names) == len(set(names))


def test_every_container_is_closed_and_bounded(release: Rendered) -> None:
    for name, pod, container in release.containers():
        assert pod["securityContext"].items() >= {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000}.items(), name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}, name
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


def test_what_runs_on_has_probes_and_what_ends_has_a_limit(release: Rendered) -> None:
    for kind in ("Deployment", "StatefulSet"):
        for name, one in release.of_kind(kind).items():
            (container,) = one["spec"]["template"]["spec"]["containers"]
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys(), name
            for probe in (container[f"{word}Probe"] for word in ("startup", "readiness", "liveness")):
                asked = probe.get("httpGet") or probe.get("tcpSocket") or {}
                assert not asked or asked["port"] in ports_of(release.pods[name]), name
                if name == "gateway":
                    assert f'@app.get("{asked["path"]}"' in GATEWAY_APP
                elif "path" in asked:
                    assert asked["path"] == f"/v1/models/{Config().serving.model_name}"
    job = release.one("CronJob", "retrain")["spec"]
    assert (job["concurrencyPolicy"], job["jobTemplate"]["spec"]["activeDeadlineSeconds"]) == ("Forbid", 10800)


def test_volumes_are_there_and_only_some_can_be_written(release: Rendered) -> None:
    for name, pod in release.pods.items():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        mounts = [mount for one in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"])
                  for mount in one["volumeMounts"]]
        assert {mount["name"] for mount in mounts} == volumes.keys(), name
        writable = {mount["name"] for mount in mounts if not mount.get("readOnly")}
        assert writable <= {"run", "tmp", "ssl"}
        assert {"tmp", "ssl"} & volumes.keys() == {one for one in volumes if "emptyDir" in volumes[one]}
    models = next(mount for name, _, one in release.containers() if name == "model-server" and one["name"] == name
                  for mount in one["volumeMounts"] if mount["name"] == "run")
    assert models == {"name": "run", "mountPath": str(Config().models_dir.parent).replace(str(Config().run), "/srv/run"),
                      "subPath": "models", "readOnly": True}
    assert "Secret" not in {one["kind"] for one in release.objects}


def test_services_and_policies_name_ports_and_pods_that_are_there(release: Rendered) -> None:
    for name, service in release.of_kind("Service").items():
        (pod,) = release.selected({"matchLabels": service["spec"]["selector"]}).values()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports_of(pod).keys(), name
    for name, monitor in release.of_kind("ServiceMonitor").items():
        labels = release.one("Service", name)["metadata"]["labels"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert labels[monitor["spec"]["jobLabel"]] == name
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in release.one("Service", name)["spec"]["ports"]}
        paths = {"gateway": "/metrics", "model-server": read_metrics_path(str(SERVING / "monitoring.config"))}
        assert endpoint["path"] == paths[name]
    closed = set()
    for name, policy in release.of_kind("NetworkPolicy").items():
        spec, pods = policy["spec"], release.selected(policy["spec"]["podSelector"])
        assert pods, name
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        closed |= pods.keys()
        for rule in spec["ingress"]:
            assert rule["from"], f"{name}: an empty list lets everybody in"
            assert all({port["port"] for port in rule["ports"]} <= ports_of(pod).keys() for pod in pods.values()), name
            assert all(release.selected(peer["podSelector"]) for peer in rule["from"] if peer.get("podSelector"))
        for rule in spec["egress"]:
            for pod in (pod for peer in rule.get("to", []) for pod in release.selected(peer["podSelector"]).values()):
                assert {port["port"] for port in rule["ports"]} <= ports_of(pod).keys(), name
    assert closed == release.pods.keys()


def settings_of(container: Object, config: Path) -> Config:
    """What the words of a command make of the settings, where variables have values."""
    words = [word.replace("$(REDIS_URL)", "redis://r:6379/0") for word in container["args"]]
    return load_config(config, [value for word, value in zip(words, words[1:], strict=False) if word == "--set"])


def test_commands_are_understood_and_their_settings_are_known(release: Rendered, tmp_path: Path) -> None:
    found = {}
    files = release.one("ConfigMap", "config")["data"]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    for pod, _, container in release.containers():
        if TFREC.match(container["image"]):
            command = typer.main.get_command(app).commands[container["args"][0]]  # type: ignore[attr-defined]
            command.make_parser(command.context_class(command, info_name=command.name)).parse_args(container["args"][1:])
            found[container["name"]] = settings_of(container, tmp_path / "shop.toml")
            assert container["image"] == f"tfrec:{tfrec.__version__}"
        variables = {one["name"] for one in container.get("env", [])}
        used = set(re.findall(r"\$\((\w+)\)", json.dumps(container["args"]) if "args" in container else ""))
        assert used <= variables, pod
    assert {"gateway", "retrain"} <= found.keys()
    found.pop("ssl-config", None)  # it has no file of settings
    assert {one.models_dir for one in found.values()} == {Path("/srv/run/models/tfrec")}
    assert {str(one.serving.models_config) for one in found.values()} == {"/etc/tfrec/models.config"}
    (model,) = read_models(str(tmp_path / "models.config")).model_config_list.config
    assert (model.name, model.base_path) == (found["gateway"].serving.model_name, str(found["gateway"].models_dir))


def test_the_model_server_has_the_image_and_the_flags_of_the_compose_file(release: Rendered) -> None:
    service = COMPOSE["services"]["model-server"]
    (container,) = release.one("Deployment", "model-server")["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["command"]) == (service["image"], service["entrypoint"])
    options, unknown = parse_flags(container["args"])
    assert unknown == []
    inside = {options.model_config_file, options.batching_parameters_file, options.monitoring_config_file}
    assert {Path(path).name for path in inside} <= release.one("ConfigMap", "config")["data"].keys()
    assert options.grpc_max_threads > 2 * Config().gateway.max_in_flight * values()["gateway"]["autoscaling"]["max"]
    ours = [flag for flag in service["command"] if not flag.startswith("--grpc_max_threads=")]
    assert set(container["args"]) - set(ours) <= {f"--grpc_max_threads={options.grpc_max_threads}",
                                                  "--ssl_config_file=/ssl/ssl.config"}
    assert ports_of(release.pods["model-server"]) == {"grpc": options.port, "rest": options.rest_api_port}


def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def test_everything_that_was_asked_for_arrives(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(EVERYTHING))
    release = render("--values", str(tmp_path / "values.yaml"))
    assert release.of_kind("Deployment").keys() == {"model-server"}  # Redis is elsewhere
    found = {container["name"]: container for _, _, container in release.containers()}
    config = settings_of(found["gateway"], SERVING / "shop.toml")
    assert (config.gateway.redis, str(config.gateway.keys)) == ("redis://r:6379/0", "/etc/tfrec-keys/keys.txt")
    assert config.gateway.tls.model_dump(mode="json") == {"ca": "/tls/ca.crt", "cert": "/tls/tls.crt", "key": "/tls/tls.key"}
    assert (config.gateway.explore, config.data.log, config.retrain.min_events) == (True, "s3://bucket/log", 1_000_000)
    server = settings_of(found["ssl-config"], SERVING / "shop.toml").serving.tls
    assert server.model_dump(mode="json") == {"cert": "/tls/tls.crt", "key": "/tls/tls.key", "client_ca": "/tls/ca.crt"}
    for name in ("retrain", "train", "export", "publish"):
        assert settings_of(found[name], SERVING / "shop.toml").data.log == "s3://bucket/log"
    alarms = release.one("PrometheusRule", "alerts")["spec"]
    assert alarms == yaml.safe_load((SERVING / "alerts.yml").read_text())
    assert release.one("ConfigMap", "dashboard")["data"]["tfrec.json"] == (SERVING / "dashboard.json").read_text()
    words = (tmp_path / "values.yaml").read_text() + json.dumps([one.get("env", []) for one in found.values()])
    source = "".join(path.read_text() for path in Path(tfrec.__file__).parent.rglob("*.py"))
    assert [name for name in set(re.findall(r"TFREC_\w+", words)) if f'"{name}"' not in source] == []


def test_the_autoscaler_asks_for_a_metric_that_the_adapter_makes_of_an_exported_one(tmp_path: Path) -> None:
    spec = render().one("HorizontalPodAutoscaler", "gateway")["spec"]
    (metric,) = spec["metrics"]
    (rule,) = yaml.safe_load((CHART / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    series = rule["seriesQuery"].partition("{")[0]
    assert metric["pods"]["metric"]["name"] == series
    assert series in exported(tmp_path)
    assert int(metric["pods"]["target"]["averageValue"]) < Config().gateway.max_in_flight
    target = spec["scaleTargetRef"]
    scaled = render().one(target["kind"], target["name"].removeprefix("demo-"))
    assert "replicas" not in scaled["spec"], "each upgrade would undo what the autoscaler did"


def test_exit_codes_of_a_retrain_decide_whether_it_is_tried_again() -> None:
    (codes, disrupted) = render().one("CronJob", "retrain")["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert codes["onExitCodes"]["values"] == [UsageError.exit_code, 3]
    assert (codes["action"], disrupted["action"]) == ("FailJob", "Ignore")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "gatewai.replicas=2"], "additional properties 'gatewai' not allowed"),
        (["--set", "gateway.replicas=none"], "at '/gateway/replicas': got string, want integer"),
        (["--set", "modelServer.resources.limits.memory=lots"], "'lots' does not match pattern"),
        (["--set", "settings.explore=true"], "invalid propertyName 'explore'"),
        (["--set", "redis.enabled=false"], "Two or more gateways need a Redis: set redis.enabled=true, or secrets.redis"),
        (["--set", "tls.server=s"], "tls.server is set and tls.client is not"),
        (["--set", "tls.client=s"], "tls.client is set and tls.server is not"),
    ],
)
def test_values_that_cannot_be_are_refused(words: list[str], message: str) -> None:
    found = helm("template", "demo", str(CHART), *words)
    assert found.returncode != 0
    assert message in found.stderr


def test_other_settings_and_models_take_the_place_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text('run = "/srv/run"\n[serving]\nmodel_name = "films"\n')
    (tmp_path / "my.config").write_text("model_config_list {}\n")
    release = render("--set-file", f"config={tmp_path / 'my.toml'},modelsConfig={tmp_path / 'my.config'}")
    data = release.one("ConfigMap", "config")["data"]
    assert (data["shop.toml"], data["models.config"]) == ((tmp_path / "my.toml").read_text(), "model_config_list {}\n")
    (container,) = release.pods["model-server"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/v1/models/films"


def test_the_chart_takes_the_values_of_the_runbook() -> None:
    first, later = blocks("bash", "cluster")
    kept: list[str] = []  # by --reuse-values
    for line in re.findall(r"^helm upgrade (?:.*\\\n)*.*", first.text, re.MULTILINE):
        words = shlex.split(line.replace("\\\n", " "))
        kept += [word for before, word in pairwise(words) if before == "--set"]
        release = render(*(word for value in kept for word in ("--set", value)))
        assert set(release.of_kind("Job")) == ({"train"} if kept[-1] == "train.enabled=true" else set())
        secrets = [volume["secret"]["secretName"] for pod in release.pods.values() for volume in pod["spec"]["volumes"]
                   if "secret" in volume]
        assert set(secrets) == {"keys", "tls-server", "tls-gateway"}
    assert not render(*re.findall(r"--set(?= )|(?<=--set )\S+", later.text)).of_kind("HorizontalPodAutoscaler")
    assert set(re.findall(r"--set-file (\w+)=", later.text)) <= values().keys()
    assert all((SERVING.parent / path).exists() for path in re.findall(r"serving/\S+", first.text + later.text))
    named = set(re.findall(r"(?:deployment|statefulset|cronjob|job|pod)/tfrec-([a-z-]+[a-z])|`tfrec-([a-z-]+)`", RUNBOOK))
    assert {one or other for one, other in named} == {"model-server", "gateway", "train", "retrain"}
    assert release.pods.keys() >= {"model-server", "gateway", "retrain"}


def test_the_chart_is_of_this_version_passes_lint_and_repeats_no_file() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == tfrec.__version__
    found = helm("lint", "--strict", str(CHART))
    assert found.returncode == 0, found.stdout
    for file in (CHART / "files").iterdir():
        assert os.readlink(file) == f"../../{file.name}"
        assert file.is_file()
