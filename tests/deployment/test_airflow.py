"""The DAG for Airflow: what it makes of each exit code, and that what it runs is a command of tfrec."""
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import typer

from tests.deployment.rendered import SERVING
from tfrec.cli.app import app

DAG = SERVING / "airflow_dag.py"


class GivenUp(Exception):
    """A task that Airflow does not try again."""


@pytest.fixture
def dag(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """The DAG as a function of the exit code, in a stand-in for Airflow that calls each task where it is used."""
    told = SimpleNamespace()

    def task(function: Callable[..., Any] | None = None, **options: Any) -> Any:
        return (lambda inner: inner) if function is None else function

    def described(**options: Any) -> Callable[[Callable[[], None]], Callable[[], None]]:
        told.options = options
        return lambda function: lambda: setattr(told, "run", function)

    modules = {name: ModuleType(name) for name in ("airflow", "airflow.sdk", "airflow.sdk.exceptions", "pendulum")}
    vars(modules["airflow.sdk"]).update(dag=described, task=task)
    vars(modules["airflow.sdk.exceptions"])["AirflowFailException"] = GivenUp
    vars(modules["pendulum"])["datetime"] = lambda *_, **__: None
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    program = tmp_path / "tfrec"
    program.write_text('#!/bin/sh\necho "$@" > "$0.asked"\necho "{}"\nexit $(cat "$0.code")\n')
    program.chmod(0o755)
    monkeypatch.setenv("TFREC", str(program))
    told.names = runpy.run_path(str(DAG))
    told.code = (tmp_path / "tfrec.code").write_text
    yield told
    if (tmp_path / "tfrec.asked").exists():
        assert (tmp_path / "tfrec.asked").read_text().split() == told.names["RETRAIN"][1:]


def test_what_it_runs_is_a_command_of_tfrec(dag: SimpleNamespace) -> None:
    name, *words = dag.names["RETRAIN"][1:]
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    command.make_parser(command.context_class(command, info_name=name)).parse_args(words)


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [(1, RuntimeError, "exit code 1"), (2, GivenUp, "wrong usage"), (3, GivenUp, "gate rejected"), (137, RuntimeError, "137")],
)
def test_each_exit_code_has_its_end(dag: SimpleNamespace, code: int, error: type[Exception], message: str) -> None:
    dag.code(str(code))
    with pytest.raises(error, match=message):
        dag.run()


def test_a_model_that_is_promoted_or_has_nothing_to_learn_is_no_failure(dag: SimpleNamespace) -> None:
    dag.code("0")
    dag.run()


def test_runs_do_not_overlap_and_failures_are_told(dag: SimpleNamespace) -> None:
    assert (dag.options["max_active_runs"], dag.options["catchup"]) == (1, False)
    assert dag.options["default_args"]["on_failure_callback"] is dag.names["alert"]
    assert len(DAG.read_text().splitlines()) < 80


@pytest.mark.filterwarnings("default")  # Airflow's own
def test_airflow_reads_it(tmp_path: Path) -> None:
    pytest.importorskip("airflow")
    program = ("from airflow.dag_processing.dagbag import DagBag; import sys; bag = DagBag(sys.argv[1]); "
               "print(bag.import_errors, bag.dags['tfrec_retrain'].max_active_runs, *sorted(bag.dags['tfrec_retrain'].task_ids))")
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    found = subprocess.run([sys.executable, "-c", program, str(DAG)], env=environment, capture_output=True, text=True)
    assert found.stdout.splitlines()[-1:] == ["{} 1 gate retrain"], found.stderr
