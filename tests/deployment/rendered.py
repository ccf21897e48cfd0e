"""The chart as Helm renders it, taken apart."""
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

SERVING = Path(__file__).parents[2] / "serving"
CHART = SERVING / "helm"
HELM = shutil.which("helm") or shutil.which("helm", path=str(Path(sys.executable).parent))

Object = dict[str, Any]


def helm(*words: str) -> "subprocess.CompletedProcess[str]":
    assert HELM is not None
    return subprocess.run([HELM, *words], capture_output=True, text=True, timeout=60)


@cache
def render(*words: str) -> "Rendered":
    found = helm("template", "demo", str(CHART), "--namespace", "shop", *words)
    assert found.returncode == 0, found.stderr
    return Rendered(tuple(one for one in yaml.safe_load_all(found.stdout) if one))


@dataclass(frozen=True)
class Rendered:
    """All objects of a release."""

    objects: tuple[Object, ...]

    def of_kind(self, kind: str) -> dict[str, Object]:
        """Name, without the release's -> object."""
        return {one["metadata"]["name"].removeprefix("demo-"): one for one in self.objects if one["kind"] == kind}

    def one(self, kind: str, name: str) -> Object:
        return self.of_kind(kind)[name]

    @property
    def pods(self) -> dict[str, Object]:
        """Name of what makes the pod -> its template."""
        found = {}
        for one in self.objects:
            spec = one.get("spec", {})
            spec = spec.get("jobTemplate", {}).get("spec", spec)
            if "template" in spec:
                found[one["metadata"]["name"].removeprefix("demo-")] = spec["template"]
        return found

    def containers(self) -> Iterator[tuple[str, Object, Object]]:
        """Each container, those of the start included: the name of its pod, the pod's spec, the container."""
        for name, pod in self.pods.items():
            for container in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]):
                yield name, pod["spec"], container

    def selected(self, selector: Object) -> dict[str, Object]:
        """The pods whose labels fit a selector."""
        def fits(labels: dict[str, str]) -> bool:
            wanted, sets = selector.get("matchLabels", {}), selector.get("matchExpressions", [])
            return wanted.items() <= labels.items() and all(labels.get(one["key"]) in one["values"] for one in sets)

        return {name: pod for name, pod in self.pods.items() if fits(pod["metadata"]["labels"])}


def ports_of(pod: Object) -> dict[str, int]:
    """Name -> number of every port that a pod's containers listen at."""
    return {port["name"]: port["containerPort"] for one in pod["spec"]["containers"] for port in one.get("ports", [])}
